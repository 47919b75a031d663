"""Child jobs: parts whose work is a job of its own, such as a section that is voted on or a step of a workflow.

Such a part has no call and no lease. Its child job is accepted like any other job. The child job's id follows from the
part, so creating it twice makes one job. When the child job ends, the step `tasks.finish_part` finishes the part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.config.config import Config
from tasks.contract.errors import BadInput, PointsmanError
from tasks.contract.job import CallId, Job, parse_job
from tasks.contract.job_fields import Parent
from tasks.contract.result import FINAL
from tasks.ledger import PartRecord, PartStatus
from tasks.parallel.part_limits import check_part_count, part_share
from tasks.parallel.part_spec import DEEPEST
from tasks.queue.ports import Ports
from tasks.workflows.check_job import check_job
from tasks.workflows.steps import StepOutcome, make_step_job


async def create_child_jobs(ports: Ports, job: Job, wave: int, parts: Sequence[PartStatus]) -> None:
    """Accept the child jobs of these parts of `job`, and publish them to the router. Safe to repeat."""
    if not parts:
        return
    ledger = ports.ledger
    share = await _budget_share(ports, job, wave)
    inherited = await _inherited_fields(ports, job, share)
    depth = 1 if job.parent is None else job.parent.depth + 1
    most = part_share(job, (await ledger.views.progress(job.id)).n, ports.config)
    children: list[Job] = []
    for part, fields in zip(parts, await _read_fields(ports, job, parts), strict=True):
        name = CallId(job.id, part.index, wave)
        parent = Parent(part=str(name), depth=depth, parts=most)
        try:
            child = _child_job(ports.config, fields, {**inherited, "id": part.job}, parent)
        except PointsmanError as error:
            await finish_part(ports, job, name, part.job, PartRecord(error=str(error), never_created=True))
            continue
        if child is None:
            await finish_part(ports, job, name, part.job, PartRecord(skipped=True, never_created=True))
        else:
            children.append(child)
    if not children:
        return
    await _accept(ports, job, children)
    if share is not None:
        # Calls of the parent must leave these shares unspent. A booking that comes late does no harm: each child job
        # reports its true cost when it ends.
        created = {child.id for child in children}
        await ledger.store.run(
            *(
                ledger.jobs.book(job.id, part.index, part.job, usd=share, budget=job.budget_usd or 0.0)
                for part in parts
                if part.job in created
            )
        )


async def finish_part(
    ports: Ports, job: Job, part: CallId, child: str, record: PartRecord, *, output: str | None = None
) -> str:
    """Write the end of the part of `job` whose child job is `child`; returns the part's state.

    Publishes the join where this part decides the job. An optional step of a workflow that fails counts as skipped: the
    workflow goes on.
    """
    nothing_to_do = record.skipped
    if output is None and _is_optional(ports.config, job, part.index):
        record = replace(record, skipped=True)
    word, detail = await ports.ledger.jobs.finish(part.job, part.index, child, output=output, record=record)
    if nothing_to_do or (word == "complete" and detail != "all"):
        # A part with nothing to do has no message in the chord, and an early stop does not wait for the chord.
        await ports.publisher.send_join(part.job, wave=part.wave or 0)
    elif record.never_created:
        # No child job will end and publish this message: without it the chord of the wave would wait for ever.
        await ports.publisher.send_finish_parts([part])
    if word == "over":
        return "cancelled"
    return "skipped" if record.skipped else "failed" if output is None else "succeeded"


def _is_optional(config: Config, job: Job, step: int) -> bool:
    workflow = config.flows.get(job.kind)
    return workflow is not None and step < len(workflow.steps) and workflow.steps[step].optional


async def read_steps(ports: Ports, job: Job, count: int) -> list[StepOutcome]:
    """How the first `count` steps of a workflow's job ended."""
    views = ports.ledger.views
    outcomes = await views.outcomes(job.id, 0, count)
    routes = await views.routes([part.job for part in await views.statuses(job.id, 0, count)])
    done = []
    for step, outcome, route in zip(ports.config.flows[job.kind].steps, outcomes, routes, strict=False):
        if outcome.output is not None:
            done.append(
                StepOutcome(
                    step.name,
                    "succeeded",
                    output=outcome.output,
                    route="" if route == job.kind else route,
                    truncated=outcome.truncated,
                )
            )
        elif outcome.error:
            done.append(StepOutcome(step.name, "failed", error=outcome.error))
        else:
            done.append(StepOutcome(step.name, "skipped"))
    return done


async def _accept(ports: Ports, job: Job, children: Sequence[Job]) -> None:
    ledger = ports.ledger
    words = await ledger.accept(children, keep_seconds=ports.config.limits.keep_seconds)
    (state,) = await ledger.views.states([job.id])
    if state is None or state in FINAL:
        # The parent was cancelled before its children existed, so that cancellation did not reach them.
        for child in children:
            await ledger.cancel_child(child.id)
        return
    accepted = [child for child, word in zip(children, words, strict=True) if word == "accepted"]
    await ports.publisher.send_routes([(child.id, child.priority) for child in accepted])


def _child_job(
    config: Config, fields: Mapping[str, Any] | PointsmanError | None, inherited: Mapping[str, Any], parent: Parent
) -> Job | None:
    """The job that is a part's work; None where the part has nothing to do.

    Raises:
        PointsmanError: why the job can't be made.
    """
    if isinstance(fields, PointsmanError):
        raise fields
    if fields is None:
        return None
    if inherited.get("budget_usd", 1.0) <= 0:
        raise BadInput("budget_usd", "the job's budget is used up")
    if parent.depth > DEEPEST:
        raise BadInput("each", f"makes jobs within jobs more than {DEEPEST} deep", "nest them less")
    child = parse_job({**fields, **inherited})
    check_job(child, config)
    child = child.model_copy(update={"parent": parent})
    check_part_count(child, config)
    return child


async def _inherited_fields(ports: Ports, job: Job, budget_usd: float | None) -> dict[str, Any]:
    """The fields that each child job has from its parent."""
    fields: dict[str, Any] = {"labels": dict(job.labels), "metadata": dict(job.metadata), "priority": job.priority}
    (summary,) = await ports.ledger.views.summaries([job.id])
    if summary is not None and summary.deadline_at is not None:
        fields["deadline"] = max(summary.deadline_at - await ports.ledger.fleet.now(), 0.001)
    if budget_usd is not None:
        fields["budget_usd"] = budget_usd
    return fields


async def _budget_share(ports: Ports, job: Job, wave: int) -> float | None:
    """USD that each child job of this wave may spend; None without a budget.

    What is left of the budget is shared equally by all parts that are not sent yet. The steps of a workflow run one
    after the other: each may spend all that is left.
    """
    if job.budget_usd is None:
        return None
    left = job.budget_usd - await ports.ledger.views.spent(job.id)
    if job.kind in ports.config.flows:
        return left
    progress = await ports.ledger.views.progress(job.id)
    return left / (progress.n - progress.starts[wave])


async def _read_fields(
    ports: Ports, job: Job, parts: Sequence[PartStatus]
) -> list[Mapping[str, Any] | PointsmanError | None]:
    """The fields of each part's child job: None where the part has nothing to do, an error where no job can be made."""
    if job.kind in ports.config.flows:
        return [await _step_fields(ports, job, part.index) for part in parts]
    specs = await ports.ledger.views.specs(job.id, [part.index for part in parts])
    # A section that a model has proposed is a task on the job's own text.
    return [
        {
            **(spec.child or {}),
            "text": "\n\n".join(filter(None, (job.text, spec.task))) if spec.text is None else spec.text,
        }
        for spec in specs
    ]


async def _step_fields(ports: Ports, job: Job, index: int) -> Mapping[str, Any] | PointsmanError | None:
    try:
        return make_step_job(ports.config.flows[job.kind], index, job, await read_steps(ports, job, index))
    except PointsmanError as error:
        return error
