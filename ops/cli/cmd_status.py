"""``pointsman status``: the state of jobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ops.cli.arguments import AsJson, JobIds
from ops.cli.environment import open_ledger
from ops.cli.exits import Exit, print_failure, unknown_job
from ops.cli.render import age, models_of, print_json, print_table

if TYPE_CHECKING:
    from tasks.contract.result import Result


async def status(ids: JobIds, *, as_json: AsJson = False) -> int:
    """Show the state of jobs.

    pointsman status 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
    async with open_ledger() as ledger:
        found = {job_id: await ledger.views.result(job_id, outputs=False) for job_id in ids}
    if as_json:
        print_json(
            [
                _as_json(job) if job else {"id": job_id, "state": None, "error": str(unknown_job(job_id))}
                for job_id, job in found.items()
            ]
        )
    else:
        now = time.time()
        rows = [_row(job, now) for job in found.values() if job]
        if rows:
            head = ("job", "state", "kind", "route", "model", "parts", "age")
            print_table(head, rows, whole=("job", "state"), right=("parts", "age"))
        for job_id in (job_id for job_id, job in found.items() if job is None):
            print_failure(unknown_job(job_id), as_json=False)
    return Exit.OK if all(found.values()) else Exit.NOT_FOUND


def _as_json(job: Result) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "kind": job.kind,
        "route": job.routing.route if job.routing else None,
        "model": models_of(job) or None,
        "parts_ended": _ended_parts(job),
        "parts_failed": job.parts_failed,
        "parts_total": job.parts_total,
        "truncated": job.truncated,
        "simulated": job.simulated,
        "error": job.error,
        "labels": dict(job.labels),
        "accepted_at": job.accepted_at,
        "ended_at": job.ended_at,
    }


def _row(job: Result, now: float) -> tuple[str, ...]:
    return (
        job.id,
        job.state,
        job.kind,
        (job.routing and job.routing.route) or "-",
        models_of(job) or "-",
        f"{_ended_parts(job)}/{job.parts_total}" if job.parts_total else "-",
        age(job.accepted_at, now),
    )


def _ended_parts(job: Result) -> int:
    return sum(part.state not in {"waiting", "queued", "running"} for part in job.parts)
