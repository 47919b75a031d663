"""``pointsman cancel``: the end of jobs before their time."""

from __future__ import annotations

from typing import Any

from ops.cli.arguments import AsJson, JobIds
from ops.cli.environment import open_producer
from ops.cli.exits import Exit, print_failure, unknown_job
from ops.cli.render import print_json


async def cancel(ids: JobIds, *, as_json: AsJson = False) -> int:
    """End jobs as cancelled, and stop their calls.

    A job that has ended stays as it is.

        pointsman cancel 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
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
