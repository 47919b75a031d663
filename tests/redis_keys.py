"""The Redis keys that tests read or write directly; no other module of the tests spells one.

A test should look at what the code returns. It looks at a key where only Redis can show a fact (a lease that is gone)
or where it makes a state that takes long to reach (a breaker that is open, a deadline that has passed).
"""

from __future__ import annotations

from tasks.queue.app import lists_of
from tasks.queue.channel import QUARANTINE

__all__ = [
    "ACTIVE_JOBS",
    "BATCHES",
    "CONFIGURED",
    "DEADLINES",
    "DELAYED_CALLS",
    "DRAINED",
    "PREFERENCES",
    "RESERVED",
    "RESERVED_INDEX",
    "SERVED",
    "SERVING",
    "SWEEPER_LEADER",
    "WAITING_LISTS",
    "all_of_job",
    "batch_jobs",
    "claims",
    "fleet",
    "idempotency",
    "job",
    "job_events",
    "leases",
    "limiter",
    "lists_of",
    "parts",
    "quarantine",
    "waiting_list",
]


def fleet(name: str) -> str:
    """A key of the fleet, or a pattern of several."""
    return f"pm:{{fleet}}:{name}"


#: Jobs that have not ended, by the time of their next check.
ACTIVE_JOBS = fleet("active")
BATCHES = fleet("batches")
#: Each model's capacity, as configured.
CONFIGURED = fleet("configured")
#: Jobs with a deadline, by that.
DEADLINES = fleet("deadlines")
DELAYED_CALLS = fleet("delayed")
#: Models that an operator has drained.
DRAINED = fleet("drained")
#: What calls that wait for several models prefer.
PREFERENCES = fleet("preferences")
#: Until when a model counts as served, by the last report of a worker (ms).
SERVED = fleet("served")
#: ``<process>|<model>``, by the time until which that process counts as serving the model (ms).
SERVING = fleet("serving")
SWEEPER_LEADER = fleet("leader:sweeper")
#: The names of all waiting lists that are not empty.
WAITING_LISTS = fleet("waiting-lists")

#: kombu's hash of messages that a worker has reserved, and their index by time.
RESERVED, RESERVED_INDEX = "unacked", "unacked_index"


def quarantine(queue: str) -> str:
    """The entries of a queue that are no messages."""
    return queue + QUARANTINE


def claims(model: str, *, kind: str = "single") -> str:
    """The admitted calls of a model; `kind` is ``single`` or ``part``."""
    return fleet(f"{kind}:{model}")


def waiting_list(models: str) -> str:
    """The calls that wait for these models, joined by a comma."""
    return fleet(f"waiting:{models}")


def limiter(model: str) -> str:
    """A model's breaker, use of its limits and latency."""
    return fleet(f"limiter:model:{model}")


def leases(name: str, *, kind: str = "model") -> str:
    """The attempts that run now at a model, or with a configured key (`kind` is ``key`` then)."""
    return fleet(f"running:{kind}:{name}")


def job(job_id: str) -> str:
    return f"pm:{{{job_id}}}"


def all_of_job(job_id: str) -> str:
    """The pattern of all keys of a job."""
    return f"{job(job_id)}*"


def parts(job_id: str) -> str:
    return f"{job(job_id)}:parts"


def job_events(job_id: str) -> str:
    """The channel that a job's changes are announced on."""
    return f"{job(job_id)}:events"


def batch_jobs(batch: str) -> str:
    return f"{job(batch)}:batch-jobs"


def idempotency(digest: str) -> str:
    return f"pm:idem:{digest}"
