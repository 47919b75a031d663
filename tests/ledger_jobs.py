"""Jobs in the ledger, brought to a state by its steps."""

from __future__ import annotations

from tasks.contract.job import Job, parse_job
from tasks.contract.result import Decision
from tasks.ledger import PartRecord, StagePlan, digest
from tasks.parallel.early_stop import StopRule
from tasks.parallel.part_spec import PartSpec
from tests import redis_keys
from tests.harness import part_call

__all__ = [
    "DECISION",
    "KEEP",
    "MODELS",
    "accepted",
    "end_parts",
    "finish",
    "let_pass",
    "planned",
    "single",
    "state_of",
    "vote_of",
]

MODELS = ("fast", "slow")
DECISION = Decision(route="r", classifier="rules", confidence=1.0, strategy="round_robin")
KEEP = 3600


def let_pass(store, job, field, seconds, *, key=""):
    """Move a time of the record into the past: what the script sees is as if `seconds` had passed."""
    name = redis_keys.job(job) + key
    store.hset(name, field, int(store.hget(name, field)) - int(seconds * 1000))


def vote_of(n, **more):
    return parse_job({"kind": "vote", "text": "yes or no?", "n": n, **more})


async def accepted(ledger, job=None, *, keep=KEEP):
    job = job or Job(text="hello")
    assert await ledger.accept([job], keep_seconds=keep) == ["accepted"]
    return job.id


async def single(ledger, *, model="fast", **more):
    job = await accepted(ledger, Job(text="hello", **more))
    assert await ledger.jobs.route(job, DECISION, placed="queued", model=model) == "routed"
    return job


async def planned(ledger, job, parts=None):
    job_id = await accepted(ledger, job)
    assert await ledger.jobs.route(job_id, DECISION) == "routed"
    plans = [PartSpec("fast", f"part {index}") for index in range(parts or job.n)]
    stopping = StopRule(exact=True) if job.kind == "vote" else None
    assert (await ledger.plan(job_id, DECISION.model_dump_json(), StagePlan(plans, stopping=stopping)))[0] == "ok"
    return job_id


async def finish(ledger, job, index, owner, output="answer", *, error=None, ballot=""):
    record = PartRecord(error=error, ballot=digest(ballot) if ballot else "")
    output = None if error else output
    reply, _ = await ledger.settle(part_call(job, index), "fast", owner, output=output, record=record)
    return reply


async def state_of(ledger, job):
    return (await ledger.views.states([job]))[0]


async def end_parts(ledger, job, *indices, error=None):
    """These parts run and end."""
    for index in indices:
        await ledger.jobs.claim(job, index, f"owner {index}")
        word = await finish(ledger, job, index, f"owner {index}", f"answer {index}", error=error)
    return word
