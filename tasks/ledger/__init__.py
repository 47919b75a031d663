"""The ledger: what was accepted (`jobs`), what is in flight and who waits (`fleet`). The truth, in Redis."""

from tasks.ledger.fleet import LEASE, QUEUED_LEASE, WAVE, Admitted, CallId, Fleet
from tasks.ledger.jobs import Claim, Holding, Jobs, Outcome, PartPlan, PartRecord, digest
from tasks.ledger.ledger import Ledger

__all__ = [
    "LEASE",
    "QUEUED_LEASE",
    "WAVE",
    "Admitted",
    "CallId",
    "Claim",
    "Fleet",
    "Holding",
    "Jobs",
    "Ledger",
    "Outcome",
    "PartPlan",
    "PartRecord",
    "digest",
]
