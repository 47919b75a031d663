"""Step 4, once a part: claim the part, run it, publish what follows.

Once a part's output is written its model is never asked again. A failed attempt is tried again, with the same model or
the next; a call that has to wait leaves its slot. The failure of a part is a value: it is written like an answer, and
the job's policy decides what it means. Nothing here raises into the chord but `Ignore`, which says that this message is
not the one that counts.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger

from tasks.calling.run import Run, RunOutcome
from tasks.contract.errors import Unreachable
from tasks.contract.job import CallId
from tasks.ledger import Admitted, Claim, PartStatus
from tasks.queue.app import model_of_queue
from tasks.queue.ports import Ports
from tasks.queue.publisher import notify_parent

log = get_task_logger(__name__)


@shared_task(name="tasks.call", bind=True)
async def call(self: Any, job_id: str, index: int, wave: int | None = None) -> dict[str, Any]:
    """Run one part. Returns a summary for the chord, never a text."""
    ports, name = self.app.ports(), CallId(job_id, index, wave)
    queue = (self.request.delivery_info or {}).get("routing_key") or ""
    outcome = await _claim_and_run(ports, name, model_of_queue(queue) or "")
    await publish_outcome(ports, name, outcome)
    if outcome.state is None:
        raise Ignore
    return {"index": index, "state": outcome.state}


async def _claim_and_run(ports: Ports, name: CallId, model: str) -> RunOutcome:
    """`model` is the one in whose queue the message stood, "" where that is not known."""
    jobs = ports.ledger.jobs
    owner = ports.leases.new_owner()
    claim = await jobs.claim(name.job, name.index, owner, at=model)
    # A part that runs is not taken from its worker here, even if its lease has lapsed: after Redis was away all leases
    # have, and Celery delivers all messages again. The sweeper knows of that. It sends the calls of dead workers again.
    if isinstance(claim, Claim):
        return await Run(ports, name, owner, claim).execute()
    return await _drop(ports, name, model, claim)


async def _drop(ports: Ports, name: CallId, model: str, part: PartStatus) -> RunOutcome:
    """Drop a message whose part is not to be run here: release the slot that the message holds."""
    if not part.state:
        log.warning("no such part: %s", name)
        return RunOutcome("gone")
    if part.state in {"waiting", "queued", "running"}:
        # It runs, or another message counts. While it waits it may be admitted here this moment; only a part that
        # stands at another model needs no slot here.
        moved = part.state != "waiting" and model not in {"", part.model}
        return RunOutcome(None, await ports.ledger.free(name, model) if moved else ())
    # Release the slot of this message: no other message will. A job that was cancelled while its call was admitted does
    # not know the model: the lease of that slot lapses.
    slots = [Admitted(name, known) for known in {part.model, model} if known]
    return RunOutcome(part.state, await ports.ledger.free_all(slots))


async def publish_outcome(ports: Ports, name: CallId, outcome: RunOutcome) -> None:
    """Publish what follows from the end of a run."""
    try:
        if outcome.admitted:
            await ports.publisher.send_calls(outcome.admitted)
        if outcome.join:
            await ports.publisher.send_join(name.job)
        if outcome.ended_job is not None:
            await notify_parent(ports.publisher, outcome.ended_job)
    except Unreachable as error:
        # The part itself has ended; the sweeper publishes what is missing.
        log.warning("after call %s: %s", name, error)
