"""Step 6, for child jobs alone: when a child job ends, copy its result into the parent's part."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Ignore

from tasks.contract.job import CallId
from tasks.contract.result import Result
from tasks.ledger import PartRecord
from tasks.queue.ports import Ports
from tasks.queue.publisher import notify_parent
from tasks.workflows import child_jobs

#: How a child job ended that did not succeed, in the words of the part's error.
_ENDS = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired"}


@shared_task(name="tasks.finish_part", bind=True)
async def finish_part(self: Any, job_id: str, index: int, wave: int) -> dict[str, Any]:
    """Finish one part. This task is a member of the wave's chord, so it is published when the child job ends."""
    state = await copy_result(self.app.ports(), CallId(job_id, index, wave))
    if state is None:
        raise Ignore
    return {"index": index, "state": state}


async def copy_result(ports: Ports, part: CallId) -> str | None:
    """The part's state; None where its child job has not ended, and the chord must not count this message."""
    views = ports.ledger.views
    known = await views.read(part.job)
    (status,) = await views.statuses(part.job, part.index, 1)
    if known is None or not status.job:
        return status.state or "gone"
    if status.state not in {"waiting", "running"}:
        return status.state
    (summary,) = await views.summaries([status.job])
    # Of a child job with many parts only the joined output is read.
    result = await views.result(status.job, outputs=summary is not None and summary.kind == "single")
    if result is None or not result.final:
        return None
    job, _, _ = known
    if result.state == "expired" and job.deadline is not None:
        # The child job's deadline was what the parent had left.
        if await ports.ledger.cancel(part.job, "expired", result.error or "the deadline passed") == "ok":
            await notify_parent(ports.publisher, job)
        return "cancelled"
    output = (result.output or "") if result.state == "succeeded" else None
    return await child_jobs.finish_part(ports, job, part, status.job, _make_record(result), output=output)


def _make_record(result: Result) -> PartRecord:
    failed = result.state in _ENDS
    return PartRecord(
        usage=result.usage,
        cost_usd=result.cost_usd,
        spent_usd=result.cost_usd,
        latency_s=round((result.ended_at or result.accepted_at) - result.accepted_at, 4),
        simulated=result.simulated,
        finish_reason=result.finish_reason,
        error=f"its job {_ENDS[result.state]}: {result.error or 'unknown why'}" if failed else None,
    )
