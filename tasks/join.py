"""Step 5: the chord's callback. Joins what the parts wrote, once, whoever triggers it.

A join may ask models: then it plans more parts, and is done again with their answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.parallel.joins import (
    JoinAnswer,
    Joined,
    JoinQuestions,
    Missing,
    Piece,
    Work,
    check_policy,
    join_named,
    join_options,
)
from tasks.parallel.part_spec import PartSpec
from tasks.parallel.proposal import read_proposal
from tasks.queue.ports import Ports, ports_of
from tasks.queue.publisher import notify_parent
from tasks.workflows import workflow
from tasks.workflows.child_jobs import read_steps
from tasks.workflows.planning import plan_parts, plan_questions, publish_wave, window_of
from tasks.workflows.voting import decided_early, join_of, weights_for

if TYPE_CHECKING:
    from tasks.contract.job import Job
    from tasks.contract.result import Decision
    from tasks.ledger import PartOutcome, Progress, Stage
    from tasks.workflows.planning import Planned

__all__ = ["join"]

log = get_task_logger(__name__)

#: Rounds of questions that a join may ask: a tree over 100,000 parts, two by two, has 17.
MOST_ROUNDS = 64
#: Parts above which a join is made in a thread.
MANY = 100


@shared_task(name="tasks.join", bind=True)
async def join(self: Any, job_id: str, wave: int = 0) -> None:  # noqa: ARG001 - tells the messages of waves apart
    """Join a job whose parts are there, or have its next wave sent. Safe to repeat and to run twice at once."""
    ports = ports_of(self.app)
    await join_job(ports, job_id)


async def join_job(ports: Ports, job_id: str) -> str:
    """``joined``, ``asked``, ``next wave``, or the ledger's word for why there was nothing to do."""
    jobs = ports.ledger.jobs
    gate = await jobs.join(job_id)
    if gate.wave_ended:
        known = await jobs.read(job_id)
        if known is None:
            return "gone"
        if not await decided_early(ports, known[0], await jobs.progress(job_id)):
            await ports.publisher.send_fanout(job_id, wave=gate.waves)
            return "next wave"
        gate = await jobs.join(job_id, decided=True)
    if gate.word == "poison":
        await ports.ledger.cancel(job_id, "failed", "the join was started several times and never came to an end")
        if (known := await jobs.read(job_id)) is not None:
            await notify_parent(ports.publisher, known[0])
    if gate.word != "go":
        return gate.word
    return await _go(ports, job_id)


async def _go(ports: Ports, job_id: str) -> str:
    jobs = ports.ledger.jobs
    known = await jobs.read(job_id)
    if known is None:
        return "gone"
    job, _, decided = known
    assert decided is not None  # it has parts, so it was planned
    progress = await jobs.progress(job_id)
    try:
        came = await _come_to(ports, job, decided, progress)
        if not isinstance(came, Joined):
            if came is not None:
                await publish_wave(ports, job, *came)
            return "asked"
        await jobs.conclude(job_id, "succeeded", output=came.output, details=came.details)
    except Unreachable:
        raise  # the sweeper has it joined again
    except PointsmanError as error:
        await jobs.conclude(job_id, "failed", error=str(error))
    except Exception as error:
        log.exception("join of %s failed", job_id)
        await jobs.conclude(job_id, "failed", error=f"the join failed: {type(error).__name__}")
    if progress.left:
        # It was decided early: nobody will read what the other calls would say.
        (summary,) = await jobs.summaries([job_id])
        await ports.ledger.drop_calls(job_id, summary)
    await notify_parent(ports.publisher, job)
    return "joined"


async def _come_to(ports: Ports, job: Job, decided: Decision, progress: Progress) -> Joined | Planned | None:
    """The answer of a job, or the parts that were planned to find it; None where another did that.

    Raises:
        PointsmanError: why there is no answer.
    """
    if progress.stages and progress.stages[-1].role == "plan":
        return await _follow(ports, job, decided, progress)
    asked = [stage for stage in progress.stages if stage.role == "join"]
    last = asked[0].first if asked else progress.n
    outcomes = await ports.ledger.jobs.outcomes(job.id, progress.base, last - progress.base)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    succeeded = sum(outcome.output is not None for outcome in outcomes)
    if (flow := ports.config.flows.get(job.kind)) is not None:
        if failed:
            raise PointsmanError(f"step {failed[0].title}: {failed[0].error}")
        return workflow.conclude(flow, job, await read_steps(ports, job, len(outcomes)))
    reason = check_policy(job.policy, job.quorum, succeeded, len(failed), parts=len(outcomes))
    if reason is not None:
        first = next((outcome for outcome in failed if outcome.error), None)
        noun = "vote" if job.kind == "vote" else "section"
        raise PointsmanError(reason + (f"; {noun} {first.index - progress.base + 1}: {first.error}" if first else ""))
    name = join_of(job)
    pieces, missing = _sorted_out(outcomes, progress.base)
    work = Work(
        pieces=pieces,
        missing=missing,
        total=len(outcomes),
        options=join_options(name, job.join_options),
        question=job.question if job.items is None else "",
        schema=job.response_schema,
        weights=weights_for(ports.config, decided.route),
        window=window_of(job, decided, ports),
        rounds=[await _answers(ports, job, stage) for stage in asked],
    )
    # Thousands of parts take seconds, which the heartbeats of this process don't have.
    came = await asyncio.to_thread(join_named(name), work) if len(outcomes) > MANY else join_named(name)(work)
    if isinstance(came, Joined):
        return came
    if progress.left:
        raise PointsmanError(
            "the join asks models though the vote was decided early; one that asks has to say asks=True"
        )
    return await _ask(ports, job, decided, came, len(asked), progress.n)


async def _answers(ports: Ports, job: Job, stage: Stage) -> list[JoinAnswer]:
    outcomes = await ports.ledger.jobs.outcomes(job.id, stage.first, stage.count)
    return [JoinAnswer(outcome.output, outcome.error) for outcome in outcomes]


async def _ask(
    ports: Ports, job: Job, decided: Decision, ask: JoinQuestions, rounds: int, first: int
) -> Planned | None:
    if rounds >= MOST_ROUNDS or not ask.questions:
        raise PointsmanError(f"the join asked {rounds} times and came to no end")
    questions = [
        PartSpec(title=question.title, text=question.text, prompt=question.prompt, schema=question.schema, bare=True)
        for question in ask.questions
    ]
    return await plan_questions(ports, job, decided, questions, role="join", first=first)


async def _follow(ports: Ports, job: Job, decided: Decision, progress: Progress) -> Planned | None:
    """Plan the sections that a model has proposed."""
    (plan,) = await ports.ledger.jobs.outcomes(job.id, 0, 1)
    if plan.output is None:
        raise PointsmanError(f"no plan was made: {plan.error}")
    return await plan_parts(ports, job, decided, read_proposal(job, plan.output), first=progress.n)


def _sorted_out(outcomes: Sequence[PartOutcome], base: int) -> tuple[list[Piece], list[Missing]]:
    pieces = [
        Piece(outcome.index - base, outcome.title, outcome.output, outcome.model)
        for outcome in outcomes
        if outcome.state == "succeeded" and outcome.output is not None
    ]
    missing = [
        Missing(outcome.index - base, outcome.title, outcome.error or outcome.state)
        for outcome in outcomes
        if outcome.state == "failed"
    ]
    return pieces, missing
