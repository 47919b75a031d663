"""Step 3, for jobs of several parts alone: plan the parts, and publish them as Celery chords, one for each wave."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import Job
from tasks.queue.ports import Ports
from tasks.queue.publisher import notify_parent
from tasks.workflows.child_jobs import create_child_jobs
from tasks.workflows.planning import plan_first, publish_wave
from tasks.workflows.voting import wave_size

log = get_task_logger(__name__)


@shared_task(name="tasks.fanout", bind=True)
async def fanout(self: Any, job_id: str, wave: int = 0) -> None:
    """Send the parts of one wave. Safe to repeat: parts are planned once, and a part's message is always the same."""
    ports = self.app.ports()
    await fan_out(ports, job_id, wave)


async def fan_out(ports: Ports, job_id: str, number: int) -> None:
    """Plan the job before its first wave, and send the wave of this number."""
    known = await ports.ledger.views.read(job_id)
    if known is None:
        return
    job, state, decided = known
    # Read after the job: once a job is planned, its input may be kept in its parts alone.
    unplanned = (await ports.ledger.views.progress(job_id)).n == 0
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
            # An earlier run sent this wave, and may have crashed before its child jobs existed. Calls that are missing
            # are published by the sweeper.
            await _create_missing_child_jobs(ports, job, number)
    except Unreachable:
        raise  # the sweeper publishes the fan-out again
    except PointsmanError as error:
        await _fail(ports, job, str(error))
    except Exception as error:
        log.exception("fan-out of %s failed", job_id)
        await _fail(ports, job, f"the fan-out failed: {type(error).__name__}")


async def _create_missing_child_jobs(ports: Ports, job: Job, number: int) -> None:
    progress = await ports.ledger.views.progress(job.id)
    if number >= len(progress.starts):
        return
    first = progress.starts[number]
    last = progress.starts[number + 1] if number + 1 < len(progress.starts) else progress.sent
    parts = await ports.ledger.views.statuses(job.id, first, last - first)
    running = [part for part in parts if part.job and part.state == "running"]
    states = await ports.ledger.views.states([part.job for part in running])
    missing = [part for part, state in zip(running, states, strict=True) if state is None]
    await create_child_jobs(ports, job, number, missing)


async def _fail(ports: Ports, job: Job, why: str) -> None:
    if await ports.ledger.cancel(job.id, "failed", why) == "ok":
        await notify_parent(ports.publisher, job)
