"""Ask a model which route a job belongs to: its question is a job of its own, through the model's queue.

The job itself stays `accepted` meanwhile. When the question has ended, however it did, the job is routed again and
finds the answer; where that message is lost the sweeper has it routed. Nothing but the ledger remembers that it waits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.contract.ids import CallId
from tasks.contract.result import FINAL
from tasks.routing.classify.decision import Facts, Verdict
from tasks.routing.classify.llm import ModelRequired, derive_question_id

if TYPE_CHECKING:
    from tasks.contract.job import Job
    from tasks.ledger import Ledger
    from tasks.queue.ports import Ports
    from tasks.routing.classify.cascade import Cascade

__all__ = ["drop_question", "verdict_of"]

#: Seconds until the sweeper has a job routed again whose question is under way: as long as it waits by now, within
#: these. The message at the question's end is what brings it on; many thousand may wait, and each look costs a route.
LEAST_PAUSE, MOST_PAUSE = 10.0, 60.0
#: Seconds after a deadline by which the sweeper, which looks once a second, has ended what it was for.
EXPIRY_TIME = 1.5


async def verdict_of(ports: Ports, job: Job, cascade: Cascade) -> Verdict | None:
    """What the cascade says of a job; None where a model has been asked and has not answered yet. Safe to repeat."""
    facts = Facts(job.metadata)
    said = await cascade.decide(job.question, facts)
    if isinstance(said, Verdict):
        return said
    result = await ports.ledger.jobs.result(derive_question_id(job.id))
    if result is None:
        await _ask(ports, job, said)
        return None
    if not result.final and said.asker.is_question(result):
        await _look_later(ports, job, result.accepted_at)
        return None
    verdict = await cascade.decide(job.question, facts, answer=said.asker.read(result))
    assert isinstance(verdict, Verdict)
    return replace(verdict, asked=result.id, asked_usd=result.cost_usd)


async def drop_question(ledger: Ledger, job_id: str) -> None:
    """Cancel the question that is asked for a job, if there is one: nobody wants its answer any more."""
    asked = derive_question_id(job_id)
    if await ledger.jobs.stop(asked, "cancelled", "the job that it was asked for has ended") == "ok":
        await ledger.fleet.cancel(asked)
        await ledger.fleet.withdraw([CallId(asked, 0)])


async def _ask(ports: Ports, job: Job, referral: ModelRequired) -> None:
    ledger = ports.ledger
    left_s: float | None = None
    if job.deadline is not None:
        (summary,) = await ledger.jobs.summaries([job.id])
        if summary is not None and summary.deadline_at is not None:
            left_s = summary.deadline_at - await ledger.fleet.now()
    question = referral.asker.question(job, left_s=left_s)
    # Another router may ask at the same time, a fraction of a second later by the deadline: then its question stands.
    (word,) = await ledger.accept([question], keep_seconds=ports.config.limits.keep_seconds)
    (state,) = await ledger.jobs.states([job.id])
    if state is None or state in FINAL:
        # It was cancelled before its question was there to be cancelled with it.
        await drop_question(ledger, job.id)
    elif word == "accepted":
        await ports.publisher.send_routes([(question.id, question.priority)])


async def _look_later(ports: Ports, job: Job, asked_at: float) -> None:
    now = await ports.ledger.fleet.now()
    pause = min(max(now - asked_at, LEAST_PAUSE), MOST_PAUSE)
    for summary in await ports.ledger.jobs.summaries([job.id, derive_question_id(job.id)]):
        if summary is not None and summary.deadline_at is not None:
            # A question that expires has no worker who would say so.
            pause = min(pause, max(0.0, summary.deadline_at - now) + EXPIRY_TIME)
    await ports.ledger.fleet.watch({job.id: pause})
