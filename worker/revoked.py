"""What follows where an operator revokes a message by Celery's own control, from the command line or in Flower.

Workers keep the ids of revoked messages in memory and drop each message of such an id. So the message must not be sent
again: the call or the job that it stands for ends. A call that is one part of several ends as a failure, and the policy
of its job decides what that means. Any other message is all that its job has, so the job ends as cancelled.
"""

from __future__ import annotations

import asyncio

import structlog

from tasks.call import publish_outcome
from tasks.calling.run import Run
from tasks.contract.errors import PointsmanError
from tasks.contract.job import CallId
from tasks.ledger import Claim
from tasks.queue.ports import Ports
from tasks.queue.publisher import notify_parent

log = structlog.get_logger(__name__)

#: Seconds between two tries to claim a part whose call is being terminated, and the number of tries. The sweeper sends
#: the message again that was not dealt with, and it comes here again.
PAUSE, TRIES = 0.2, 25


async def end_revoked(ports: Ports, task: str, message: str) -> None:
    """End what the revoked `message` (its id) of this task stands for. Safe to repeat."""
    try:
        job_id = message.partition(".")[0]
        read = await ports.ledger.views.read(job_id)
        if read is None:
            return
        job, _, _ = read
        log.warning("message.revoked", message=message, task=task, job=job_id)
        if task == "tasks.call" and job.kind != "single":
            await _fail_part(ports, CallId.parse(message))
        elif await ports.ledger.cancel(job_id, "cancelled", f"its message {message} was revoked") == "ok":
            await notify_parent(ports.publisher, job)
    except (PointsmanError, ValueError) as error:
        # The sweeper sends the message again, and it is revoked again.
        log.warning("message.revoked_failed", message=message, problem=str(error))


async def _fail_part(ports: Ports, name: CallId) -> None:
    owner = ports.leases.new_owner()
    for _ in range(TRIES):
        claim = await ports.ledger.jobs.claim(name.job, name.index, owner)
        if isinstance(claim, Claim):
            outcome = await Run(ports, name, owner, claim).fail("cancelled: its message was revoked")
            await publish_outcome(ports, name, outcome)
            # Celery's chord counts a revoked message as a failure, and then never sends its callback.
            await ports.publisher.send_join(name.job, wave=name.wave or 0)
            return
        if claim.state != "running":
            return
        await asyncio.sleep(PAUSE)
