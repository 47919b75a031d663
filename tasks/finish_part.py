"""The end of a part whose work is a job of its own: what that job came to becomes what the part came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import shared_task
from celery.exceptions import Ignore

from tasks.contract.ids import CallId
from tasks.ledger import PartRecord
from tasks.queue.ports import Ports, ports_of

if TYPE_CHECKING:
    from tasks.contract.job import Job
    from tasks.contract.result import Result

__all__ = ["end_part", "settle", "told_parent"]

#: How a job ended that did not succeed, as people are told it.
_ENDS = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired"}


@shared_task(name="tasks.finish_part", bind=True)
async def settle(self: Any, job_id: str, index: int, wave: int) -> dict[str, Any]:
    """End one part. It stands in the chord of the part's wave, so it is sent when there is an end, not before."""
    state = await settle_part(ports_of(self.app), CallId(job_id, index, wave))
    if state is None:
        raise Ignore
    return {"index": index, "state": state}


async def settle_part(ports: Ports, part: CallId) -> str | None:
    """The state that the part is in now; None where its job has not ended, and this message does not count."""
    jobs = ports.ledger.jobs
    known = await jobs.read(part.job)
    (stood,) = await jobs.sent(part.job, part.index, 1)
    if known is None or not stood.job:
        return stood.state or "gone"
    if stood.state not in {"waiting", "running"}:
        return stood.state
    (standing,) = await jobs.standings([stood.job])
    # Of many parts only the joined output is read.
    result = await jobs.result(stood.job, outputs=standing is not None and standing.kind == "single")
    if result is None or not result.final:
        return None
    if result.state == "expired" and known[0].deadline is not None:
        # What it had was the rest of this job's time.
        if await ports.ledger.cancel(part.job, "expired", "the deadline passed") == "ok":
            await told_parent(ports, known[0])
        return "cancelled"
    return await _end(ports, known[0], part, stood.job, result)


async def _end(ports: Ports, job: Job, part: CallId, child: str, result: Result) -> str:
    error = f"its job {_ENDS[result.state]}: {result.error or 'unknown why'}" if result.state in _ENDS else None
    record = PartRecord(
        usage=result.usage,
        cost_usd=result.cost_usd,
        spent_usd=result.cost_usd,
        latency_s=round((result.ended_at or result.accepted_at) - result.accepted_at, 4),
        simulated=result.simulated,
        error=error,
    )
    if result.state == "succeeded":
        return await end_part(ports, job, part, child, output=result.output or "", record=record)
    return await end_part(ports, job, part, child, error=error or "", record=record)


async def end_part(
    ports: Ports,
    job: Job,
    part: CallId,
    child: str,
    *,
    output: str | None = None,
    error: str = "",
    skipped: bool = False,
    record: PartRecord | None = None,
) -> str:
    """Write the end of a part of `job` that is the job `child`, and have the job joined where that decides it.

    A step of a workflow that may fail is `skipped` where it does: the workflow goes on.
    """
    workflow = ports.config.flows.get(job.kind)
    optional = workflow is not None and part.index < len(workflow.steps) and workflow.steps[part.index].optional
    unborn = record is None
    record = record or PartRecord(error=error or None)
    passed_over = skipped or (output is None and optional)
    (reply,) = await ports.ledger.store.run(
        ports.ledger.jobs.finishing(
            part.job, part.index, child, output=output, record=record, skipped=passed_over, unborn=unborn
        )
    )
    word, detail = reply[0], reply[1] if len(reply) > 1 else ""
    if skipped or (word == "complete" and detail != "all"):
        # Nobody else comes to join: a part that is skipped has no message.
        await ports.publisher.join(part.job, wave=part.wave or 0)
    elif unborn:
        # No end of a job will be told: without a message of its own the chord of its wave would wait for it.
        await ports.publisher.settle([part])
    if word == "over":
        return "cancelled"
    return "skipped" if passed_over else "failed" if output is None else "succeeded"


async def told_parent(ports: Ports, job: Job) -> None:
    """A job has ended: the part whose work it was ends, too."""
    if job.parent is not None:
        await ports.publisher.settle([CallId.parse(job.parent.part)])
