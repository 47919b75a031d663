"""``pointsman status``, ``result`` and ``cancel``: the state of jobs, the output of one, and their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ops.cli.arguments import AsJson, JobId, JobIds, Timeout, Wait

if TYPE_CHECKING:
    from tasks.contract.result import Result


async def status(ids: JobIds, *, as_json: AsJson = False) -> int:
    """Show the state of jobs.

    pointsman status 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
    from ops.cli.environment import open_ledger
    from ops.cli.exits import Exit, print_failure, unknown_job
    from ops.cli.render import print_json, print_table

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
    from ops.cli.render import models_of

    return {
        "id": job.id,
        "state": job.state,
        "kind": job.kind,
        "route": job.routing.route if job.routing else None,
        "model": models_of(job) or None,
        "parts_ended": _ended_parts(job),
        "parts_failed": job.parts_failed,
        "parts_total": job.parts_total,
        "simulated": job.simulated,
        "error": job.error,
        "labels": dict(job.labels),
        "accepted_at": job.accepted_at,
        "ended_at": job.ended_at,
    }


def _row(job: Result, now: float) -> tuple[str, ...]:
    from ops.cli.render import age, models_of

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


async def result(
    id: JobId,  # noqa: A002 - the word of the help
    *,
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> int:
    """Print a job's output; the exit code says how the job ended.

    The reason of a failure goes to stderr. For a job that has not ended yet, the exit code is 5.

        pointsman result 01jzq3v5k8w9x0y1z2a3b4c5d6 --wait > answer.txt
    """
    from ops.cli.environment import open_ledger, open_producer
    from ops.cli.exits import Failure, unknown_job
    from ops.cli.waiting import print_outcome, wait_for

    if wait or timeout is not None:
        async with open_producer() as producer:
            return print_outcome(await wait_for(producer, id, timeout=timeout), as_json=as_json)
    async with open_ledger() as ledger:
        found = await ledger.views.result(id)
    if found is None:
        raise unknown_job(id)
    if not found.final and not as_json:
        raise Failure("not_ended", f"job {id} is {found.state}", remedy=f"pointsman result {id} --wait")
    return print_outcome(found, as_json=as_json)


async def cancel(ids: JobIds, *, as_json: AsJson = False) -> int:
    """End jobs as cancelled, and stop their calls.

    A job that has ended stays as it is.

        pointsman cancel 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
    from ops.cli.environment import open_producer
    from ops.cli.exits import Exit, print_failure, unknown_job
    from ops.cli.render import print_json
    from producer import JobNotFound

    entries: list[dict[str, Any]] = []
    async with open_producer() as producer:
        for job_id in ids:
            try:
                stopped = await producer.cancel(job_id)
            except JobNotFound:
                entries.append({"id": job_id, "cancelled": False, "state": None, "error": str(unknown_job(job_id))})
                continue
            (state,) = await producer.ledger.views.states([job_id])
            entries.append({"id": job_id, "cancelled": stopped, "state": state})
    if as_json:
        print_json(entries)
    for entry in () if as_json else entries:
        if "error" in entry:
            print_failure(unknown_job(entry["id"]), as_json=False)
        else:
            print(f"{entry['id']} " + ("cancelled" if entry["cancelled"] else f"had ended: {entry['state']}"))
    return Exit.NOT_FOUND if any("error" in entry for entry in entries) else Exit.OK
