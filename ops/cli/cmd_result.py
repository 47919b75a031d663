"""``pointsman result``: the output of a job."""

from __future__ import annotations

from ops.cli.arguments import AsJson, JobId, Timeout, Wait
from ops.cli.environment import open_ledger, open_producer
from ops.cli.exits import Failure, unknown_job


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
