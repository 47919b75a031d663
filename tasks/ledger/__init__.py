"""The ledger: what was accepted (`jobs`), what is in flight and who waits (`fleet`). The truth, in Redis."""

from tasks.ledger.fleet import LEASE, QUEUED_LEASE, WAVE, Admitted, Fleet
from tasks.ledger.jobs import Claim, ClaimDenied, FinishReply, Jobs, PartRecord, digest
from tasks.ledger.ledger import Ledger
from tasks.ledger.records import JobSummary, PartOutcome, PartStatus, Progress, Stage, Wave

__all__ = [
    "LEASE",
    "QUEUED_LEASE",
    "WAVE",
    "Admitted",
    "Claim",
    "PartOutcome",
    "Fleet",
    "ClaimDenied",
    "Jobs",
    "Ledger",
    "FinishReply",
    "PartRecord",
    "PartStatus",
    "Progress",
    "Stage",
    "JobSummary",
    "Wave",
    "digest",
]
