"""Parts that are jobs of their own: a section that is voted on, a section of sections, a step of a workflow.

Such a part has no call and no lease. Its job is accepted like any other, with an id that follows from the part: doing
it twice makes one job. When that job ends, `tasks.finish_part` ends the part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.accept import check
from tasks.contract.errors import BadInput, PointsmanError
from tasks.contract.ids import CallId
from tasks.contract.job import Job, Parent, parse_job
from tasks.contract.result import FINAL
from tasks.finish_part import end_part
from tasks.ledger import Sent
from tasks.parallel.bound import check_bound, part_share
from tasks.parallel.nesting import DEEPEST
from tasks.workflows.workflow import StepDone, step_job

if TYPE_CHECKING:
    from tasks.queue.ports import Ports

__all__ = ["bear", "steps_done"]


async def bear(ports: Ports, job: Job, wave: int, parts: Sequence[Sent]) -> None:
    """Have the jobs accepted that are the work of these parts, and routed. Safe to repeat."""
    if not parts:
        return
    ledger = ports.ledger
    (standing,) = await ledger.jobs.standings([job.id])
    left_s: float | None = None
    if standing is not None and standing.deadline_at is not None:
        left_s = standing.deadline_at - await ledger.fleet.now()
    share = await _share(ports, job, wave)
    most = part_share(job, (await ledger.jobs.progress(job.id)).n, ports.config)
    children: list[Job] = []
    for part, fields in zip(parts, await _fields(ports, job, parts), strict=True):
        name = CallId(job.id, part.index, wave)
        try:
            child = _child(ports, job, part, str(name), fields, left_s=left_s, budget_usd=share, parts=most)
        except PointsmanError as error:
            await end_part(ports, job, name, part.job, error=str(error))
            continue
        if child is None:
            await end_part(ports, job, name, part.job, skipped=True)
        else:
            children.append(child)
    if children:
        await _accept(ports, job, children)
        if share is not None:
            # The calls of the job must leave it to them. A step too late is no harm: it is a share, and what they spend
            # is told when they end.
            born = {child.id for child in children}
            booked = [
                ledger.jobs.booking(job.id, part.index, part.job, usd=share, budget=job.budget_usd or 0.0)
                for part in parts
                if part.job in born
            ]
            await ledger.store.run(*booked)


async def _accept(ports: Ports, job: Job, children: Sequence[Job]) -> None:
    ledger = ports.ledger
    words = await ledger.accept(children, keep_seconds=ports.config.limits.keep_seconds)
    (state,) = await ledger.jobs.states([job.id])
    if state is None or state in FINAL:
        # It was cancelled before these were there to be cancelled with it.
        for child in children:
            await ledger.cancel_child(child.id)
        return
    fresh = [child for child, word in zip(children, words, strict=True) if word == "accepted"]
    await ports.publisher.route([(child.id, child.priority) for child in fresh])


def _child(
    ports: Ports,
    job: Job,
    part: Sent,
    name: str,
    fields: Mapping[str, Any] | PointsmanError | None,
    *,
    left_s: float | None,
    budget_usd: float | None,
    parts: int,
) -> Job | None:
    """The job that is a part's work; None where there is nothing to do.

    Raises:
        PointsmanError: why there can't be one.
    """
    if isinstance(fields, PointsmanError):
        raise fields
    if fields is None:
        return None
    if budget_usd is not None and budget_usd <= 0:
        raise BadInput("budget_usd", "the job's budget is used up")
    depth = 1 if job.parent is None else job.parent.depth + 1
    if depth > DEEPEST:
        raise BadInput("each", f"makes jobs within jobs more than {DEEPEST} deep", "nest them less")
    given: dict[str, Any] = {
        "id": part.job,
        "labels": dict(job.labels),
        "metadata": dict(job.metadata),
        "priority": job.priority,
    }
    if left_s is not None:
        given["deadline"] = max(left_s, 0.001)
    if budget_usd is not None:
        given["budget_usd"] = budget_usd
    child = parse_job({**fields, **given})
    check(child, ports.config)
    child = child.model_copy(update={"parent": Parent(part=name, depth=depth, parts=parts)})
    check_bound(child, ports.config)
    return child


async def _share(ports: Ports, job: Job, wave: int) -> float | None:
    """USD that each job of this wave may spend: an equal share, for all parts to come, of what the budget has left.

    The steps of a workflow come one by one: each may spend all that is left.
    """
    if job.budget_usd is None:
        return None
    left = job.budget_usd - await ports.ledger.jobs.spent(job.id)
    if job.kind in ports.config.flows:
        return left
    progress = await ports.ledger.jobs.progress(job.id)
    return left / (progress.n - progress.starts[wave])


async def _fields(ports: Ports, job: Job, parts: Sequence[Sent]) -> list[Mapping[str, Any] | PointsmanError | None]:
    """The fields of each part's job: None where there is nothing to do, or why there can't be one."""
    if job.kind in ports.config.flows:
        return [await _step(ports, job, part.index) for part in parts]
    inputs = await ports.ledger.jobs.sections(job.id, [part.index for part in parts])
    # What a model proposed is a task on the job's own input.
    return [
        {**(own.child or {}), "text": text if text is not None else "\n\n".join(filter(None, (job.text, own.task)))}
        for _, text, own in inputs
    ]


async def _step(ports: Ports, job: Job, index: int) -> Mapping[str, Any] | PointsmanError | None:
    workflow = ports.config.flows[job.kind]
    try:
        return step_job(workflow, index, job, await steps_done(ports, job, index))
    except PointsmanError as error:
        return error


async def steps_done(ports: Ports, job: Job, count: int) -> list[StepDone]:
    """What became of the first `count` steps of a workflow's job."""
    jobs = ports.ledger.jobs
    ends = await jobs.ends(job.id, 0, count)
    routes = await jobs.routes([part.job for part in await jobs.sent(job.id, 0, count)])
    done = []
    for step, end, route in zip(ports.config.flows[job.kind].steps, ends, routes, strict=False):
        if end.output is not None:
            done.append(StepDone(step.name, "succeeded", output=end.output, route="" if route == job.kind else route))
        elif end.error:
            done.append(StepDone(step.name, "failed", error=end.error))
        else:
            done.append(StepDone(step.name, "skipped"))
    return done
