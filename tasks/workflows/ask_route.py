"""Ask a model which route a job belongs to: the question is a job of its own, through the model's queue.

The job itself stays `accepted` meanwhile. When the question has ended, the job is routed again and finds the answer;
where that message is lost the sweeper publishes it. Only the ledger knows that the job waits.
"""

from __future__ import annotations

from dataclasses import replace

from tasks.contract.job import CallId, Job
from tasks.contract.result import FINAL
from tasks.ledger import Ledger
from tasks.queue.ports import Ports
from tasks.routing.classify.cascade import Cascade
from tasks.routing.classify.decision import Facts, Verdict
from tasks.routing.classify.llm import ModelClassifier, ModelRequired, derive_question_id

#: Seconds until the sweeper has a job routed again whose question has not ended: as long as the job has waited so far,
#: within these bounds. Usually the message at the question's end comes first; many thousand jobs may wait, and each
#: look costs a route.
LEAST_PAUSE, MOST_PAUSE = 10.0, 60.0
#: Seconds after a deadline by which the sweeper, which looks once a second, has ended the job.
EXPIRY_TIME = 1.5


async def ask_route(ports: Ports, job: Job, cascade: Cascade, required: ModelRequired) -> Verdict | None:
    """The verdict with the model's answer; None where the model has not answered yet. Safe to repeat."""
    asker = required.asker
    result = await ports.ledger.views.result(derive_question_id(job.id))
    if result is None:
        await _ask(ports, job, asker)
        return None
    if not result.final and asker.is_question(result):
        await _watch(ports, job, result.accepted_at)
        return None
    verdict = await cascade.decide(job.question, Facts(job.metadata), answer=asker.read(result))
    assert isinstance(verdict, Verdict)
    return replace(verdict, asked=result.id, asked_usd=result.cost_usd)


async def cancel_question(ledger: Ledger, job_id: str) -> None:
    """Cancel the question that is asked for a job, if there is one."""
    asked = derive_question_id(job_id)
    if await ledger.jobs.stop(asked, "cancelled", "the job that it was asked for has ended") == "ok":
        await ledger.fleet.cancel(asked)
        await ledger.fleet.withdraw([CallId(asked, 0)])


async def _ask(ports: Ports, job: Job, asker: ModelClassifier) -> None:
    ledger = ports.ledger
    left_s: float | None = None
    if job.deadline is not None:
        (summary,) = await ledger.views.summaries([job.id])
        if summary is not None and summary.deadline_at is not None:
            left_s = summary.deadline_at - await ledger.fleet.now()
    question = asker.question(job, left_s=left_s)
    # Another router may ask at the same time, with a slightly different deadline: the first question is kept.
    (word,) = await ledger.accept([question], keep_seconds=ports.config.limits.keep_seconds)
    (state,) = await ledger.views.states([job.id])
    if state is None or state in FINAL:
        # The job was cancelled before its question existed, so that cancellation did not reach it.
        await cancel_question(ledger, job.id)
    elif word == "accepted":
        await ports.publisher.send_routes([(question.id, question.priority)])


async def _watch(ports: Ports, job: Job, asked_at: float) -> None:
    """Have the sweeper look at the job again later."""
    now = await ports.ledger.fleet.now()
    pause = min(max(now - asked_at, LEAST_PAUSE), MOST_PAUSE)
    for summary in await ports.ledger.views.summaries([job.id, derive_question_id(job.id)]):
        if summary is not None and summary.deadline_at is not None:
            # No worker publishes the end of a question that expires.
            pause = min(pause, max(0.0, summary.deadline_at - now) + EXPIRY_TIME)
    await ports.ledger.fleet.watch({job.id: pause})
