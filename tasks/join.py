"""Step 5, the chord's callback: join the outputs of the parts, once, however often it is published.

A join may ask models: then more parts are planned, and the join runs again with their answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import Job
from tasks.contract.result import Decision, Part
from tasks.ledger import Progress
from tasks.parallel.cut import read_proposal
from tasks.parallel.joins import JOINS, JoinAnswer, Joined, JoinQuestions, Missing, Piece, Work, check_policy
from tasks.parallel.part_spec import PartSpec
from tasks.queue.ports import Ports
from tasks.queue.publisher import notify_parent
from tasks.workflows import steps
from tasks.workflows.child_jobs import read_steps
from tasks.workflows.planning import Planned, find_window, plan_parts, plan_questions, publish_wave
from tasks.workflows.voting import find_weights, is_decided_early, name_of_join

log = get_task_logger(__name__)

#: Rounds of questions that a join may ask: a tree over 100,000 parts, two by two, has 17.
MOST_ROUNDS = 64
#: Parts above which a join is made in a thread.
MANY = 100


@shared_task(name="tasks.join", bind=True)
async def join(self: Any, job_id: str, wave: int = 0) -> None:  # noqa: ARG001 - keeps the messages of waves apart
    """Join a job whose parts have ended, or publish its next wave. Safe to repeat and to run twice at once."""
    await join_job(self.app.ports(), job_id)


async def join_job(ports: Ports, job_id: str) -> str:
    """``joined``, ``asked``, ``next wave``, or the ledger's word for why there is nothing to do."""
    jobs, views = ports.ledger.jobs, ports.ledger.views
    reply = await jobs.join(job_id)
    if reply.wave_ended:
        known = await views.read(job_id)
        if known is None:
            return "gone"
        if not await is_decided_early(ports, known[0], await views.progress(job_id)):
            await ports.publisher.send_fanout(job_id, wave=reply.waves)
            return "next wave"
        reply = await jobs.join(job_id, decided=True)
    if reply.word == "poison":
        await ports.ledger.cancel(job_id, "failed", "the join was started several times and never came to an end")
        if (known := await views.read(job_id)) is not None:
            await notify_parent(ports.publisher, known[0])
    if reply.word != "go":
        return reply.word
    return await _join_and_conclude(ports, job_id)


async def _join_and_conclude(ports: Ports, job_id: str) -> str:
    jobs, views = ports.ledger.jobs, ports.ledger.views
    known = await views.read(job_id)
    if known is None:
        return "gone"
    job, _, decided = known
    assert decided is not None  # it has parts, so it was planned
    progress = await views.progress(job_id)
    try:
        result = await _join_parts(ports, job, decided, progress)
        if not isinstance(result, Joined):
            if result is not None:
                await publish_wave(ports, job, *result)
            return "asked"
        cut = bool(result.truncated)
        await jobs.conclude(job_id, "succeeded", output=result.output, details=result.details, truncated=cut)
    except Unreachable:
        raise  # the sweeper publishes the join again
    except PointsmanError as error:
        await jobs.conclude(job_id, "failed", error=str(error))
    except Exception as error:
        log.exception("join of %s failed", job_id)
        await jobs.conclude(job_id, "failed", error=f"the join failed: {type(error).__name__}")
    if progress.left:
        # The vote was decided early: the answers of its other calls are not needed.
        (summary,) = await views.summaries([job_id])
        await ports.ledger.drop_calls(job_id, summary)
    await notify_parent(ports.publisher, job)
    return "joined"


async def _join_parts(ports: Ports, job: Job, decided: Decision, progress: Progress) -> Joined | Planned | None:
    """The job's output, or the parts that were planned to find it; None where another process has planned them.

    Raises:
        PointsmanError: why there is no output.
    """
    if progress.stages and progress.stages[-1].role == "plan":
        return await _plan_proposed_sections(ports, job, decided, progress)
    asked = [stage for stage in progress.stages if stage.role == "join"]
    last = asked[0].first if asked else progress.n
    outcomes = await ports.ledger.views.outcomes(job.id, progress.base, last - progress.base)
    if (flow := ports.config.flows.get(job.kind)) is not None:
        failed = next((outcome for outcome in outcomes if outcome.state == "failed"), None)
        if failed is not None:
            raise PointsmanError(f"step {failed.title}: {failed.error}")
        return steps.conclude_workflow(flow, job, await read_steps(ports, job, len(outcomes)))
    _check_failures(job, outcomes, progress.base)
    name = name_of_join(job)
    pieces, missing = _split_outcomes(outcomes, progress.base)
    work = Work(
        pieces=pieces,
        missing=missing,
        total=len(outcomes),
        options=JOINS.options(name, job.join_options),
        question=job.question if job.items is None else "",
        schema=job.response_schema,
        weights=find_weights(ports.config, decided.route),
        window=find_window(job, decided, ports),
        rounds=[
            [
                JoinAnswer(answer.output, answer.error or "", answer.truncated)
                for answer in await ports.ledger.views.outcomes(job.id, stage.first, stage.count)
            ]
            for stage in asked
        ],
    )
    # Thousands of parts take seconds, in which the event loop could not renew the leases of this process.
    function = JOINS.named(name)
    result = await asyncio.to_thread(function, work) if len(outcomes) > MANY else function(work)
    if isinstance(result, Joined):
        cut = any(piece.truncated for piece in pieces) if result.truncated is None else result.truncated
        return replace(result, truncated=cut)
    if progress.left:
        raise PointsmanError(
            "the join asks models though the vote was decided early; one that asks has to say asks=True"
        )
    if len(asked) >= MOST_ROUNDS or not result.questions:
        raise PointsmanError(f"the join asked {len(asked)} times and came to no end")
    return await _plan_join_questions(ports, job, decided, result, progress.n)


async def _plan_join_questions(
    ports: Ports, job: Job, decided: Decision, asked: JoinQuestions, first: int
) -> Planned | None:
    questions = [
        PartSpec(title=question.title, text=question.text, prompt=question.prompt, schema=question.schema, bare=True)
        for question in asked.questions
    ]
    return await plan_questions(ports, job, decided, questions, role="join", first=first)


async def _plan_proposed_sections(ports: Ports, job: Job, decided: Decision, progress: Progress) -> Planned | None:
    """Plan the sections that a model has proposed."""
    (plan,) = await ports.ledger.views.outcomes(job.id, 0, 1)
    if plan.output is None:
        raise PointsmanError(f"no plan was made: {plan.error}")
    return await plan_parts(ports, job, decided, read_proposal(job, plan.output), first=progress.n)


def _check_failures(job: Job, outcomes: Sequence[Part], base: int) -> None:
    """Raise a `PointsmanError` where the job's policy does not allow so many failed parts."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    succeeded = sum(outcome.output is not None for outcome in outcomes)
    problem = check_policy(job.policy, job.quorum, succeeded, len(failed), parts=len(outcomes))
    if problem is None:
        return
    first = next((outcome for outcome in failed if outcome.error), None)
    noun = "vote" if job.kind == "vote" else "section"
    raise PointsmanError(problem + (f"; {noun} {first.index - base + 1}: {first.error}" if first else ""))


def _split_outcomes(outcomes: Sequence[Part], base: int) -> tuple[list[Piece], list[Missing]]:
    pieces = [
        Piece(outcome.index - base, outcome.title, outcome.output, outcome.model or "", outcome.truncated)
        for outcome in outcomes
        if outcome.state == "succeeded" and outcome.output is not None
    ]
    missing = [
        Missing(outcome.index - base, outcome.title, outcome.error or outcome.state)
        for outcome in outcomes
        if outcome.state == "failed"
    ]
    return pieces, missing
