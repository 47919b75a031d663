"""The ledger: what was accepted (`jobs`), what is in flight and who waits (`fleet`). The truth, in Redis."""

from tasks.ledger.fleet import LEASE, QUEUED_LEASE, WAVE, Admitted, Fleet
from tasks.ledger.jobs import Claim, Holding, Jobs, Outcome, PartPlan, PartRecord, digest
from tasks.ledger.ledger import Ledger
from tasks.ledger.records import End, Progress, Sent, Stage, Standing, Wave

__all__ = [
    "LEASE",
    "QUEUED_LEASE",
    "WAVE",
    "Admitted",
    "Claim",
    "End",
    "Fleet",
    "Holding",
    "Jobs",
    "Ledger",
    "Outcome",
    "PartPlan",
    "PartRecord",
    "Progress",
    "Sent",
    "Stage",
    "Standing",
    "Wave",
    "digest",
]
