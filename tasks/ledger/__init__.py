"""The ledger: jobs and their parts, calls in flight and waiting, limits. The truth, in Redis.

Start with `ledger.py`. `jobs` writes, `views` and `sweeper_reads` read, `fleet` admits, `limiter` guards attempts; each
Lua script stands beside its module. May import what is pure: contract, config, routing, parallel.
"""

from tasks.ledger.fleet import LEASE, QUEUED_LEASE, WAVE, Admitted, Fleet
from tasks.ledger.jobs import Jobs
from tasks.ledger.ledger import Ledger
from tasks.ledger.records import (
    Claim,
    FinishReply,
    JobSummary,
    Kept,
    PartRecord,
    PartStatus,
    Progress,
    Stage,
    StagePlan,
)
from tasks.ledger.stored import digest

__all__ = [
    "LEASE",
    "QUEUED_LEASE",
    "WAVE",
    "Admitted",
    "Claim",
    "FinishReply",
    "Fleet",
    "JobSummary",
    "Jobs",
    "Kept",
    "Ledger",
    "PartRecord",
    "PartStatus",
    "Progress",
    "Stage",
    "StagePlan",
    "digest",
]
