"""Step 3, for jobs of several parts alone: say what the parts are, and send them as Celery chords, wave by wave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import Job
from tasks.finish_part import told_parent
from tasks.ledger import Sent, Wave
from tasks.queue.ports import Ports, ports_of
from tasks.workflows.children import bear
from tasks.workflows.planning import plan_first
from tasks.workflows.voting import wave_size

__all__ = ["fanout", "publish_wave"]

log = get_task_logger(__name__)


@shared_task(name="tasks.fanout", bind=True)
async def fanout(self: Any, job_id: str, wave: int = 0) -> None:
    """Send the parts of one wave. Safe to repeat: parts are planned once, and a part's message is always the same."""
    ports = ports_of(self.app)
    await fan_out(ports, job_id, wave)


async def fan_out(ports: Ports, job_id: str, number: int) -> None:
    """Plan the job, for its first wave, and send the wave of this number."""
    known = await ports.ledger.jobs.read(job_id)
    if known is None:
        return
    job, state, decided = known
    # Asked after it was read: the input of a job that is planned may lie in its parts alone.
    unplanned = (await ports.ledger.jobs.progress(job_id)).n == 0
    try:
        if number == 0 and unplanned and state == "routed" and decided is not None:
            planned = await plan_first(ports, job, decided)
        elif number > 0:
            planned = await ports.ledger.send_wave(job_id, number, size=await wave_size(ports, job))
        else:
            planned = None
        if planned is not None:
            await publish_wave(ports, job, *planned)
        else:
            # Sent before: somebody published it, or died on the way. The sweeper has calls sent that are missing.
            await _bear_the_missing(ports, job, number)
    except Unreachable:
        raise  # the sweeper has it sent again
    except PointsmanError as error:
        await _fail(ports, job, str(error))
    except Exception as error:
        log.exception("fan-out of %s failed", job_id)
        await _fail(ports, job, f"the fan-out failed: {type(error).__name__}")


async def publish_wave(ports: Ports, job: Job, wave: Wave, parts: Sequence[Sent]) -> None:
    """Have the parts of a wave begin that was just sent; called after a crash, the sweeper does the same for each."""
    calls = [(part.index, part.model) for part in parts if part.state == "queued"]
    born = [part for part in parts if part.job and part.state == "running"]
    if not calls and not born:
        # All have failed before they began: nobody else will come to join.
        await ports.publisher.join(job.id, wave=wave.number)
        return
    await ports.publisher.chord(job.id, wave.number, calls, size=len(calls) + len(born))
    await bear(ports, job, wave.number, born)


async def _bear_the_missing(ports: Ports, job: Job, number: int) -> None:
    progress = await ports.ledger.jobs.progress(job.id)
    if number >= len(progress.starts):
        return
    first = progress.starts[number]
    last = progress.starts[number + 1] if number + 1 < len(progress.starts) else progress.sent
    parts = await ports.ledger.jobs.sent(job.id, first, last - first)
    unborn = [part for part in parts if part.job and part.state == "running"]
    states = await ports.ledger.jobs.states([part.job for part in unborn])
    await bear(ports, job, number, [part for part, state in zip(unborn, states, strict=True) if state is None])


async def _fail(ports: Ports, job: Job, why: str) -> None:
    if await ports.ledger.cancel(job.id, "failed", why) == "ok":
        await told_parent(ports, job)
