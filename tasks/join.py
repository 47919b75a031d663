"""Step 5: the chord's callback. Joins what the parts wrote, once, whoever triggers it."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks import joins
from tasks.errors import PointsmanError, Unreachable
from tasks.job import Result
from tasks.ledger import WAVE
from tasks.ports import Ports, ports_of

__all__ = ["DEFAULT_JOINS", "join"]

log = get_task_logger(__name__)

#: The join of a kind that names none.
DEFAULT_JOINS = {"sections": "concatenate", "vote": "majority"}


@shared_task(name="tasks.join", bind=True)
async def join(self: Any, job_id: str, wave: int = 0) -> None:
    """Join a job whose parts are there, or have its next wave sent. Safe to repeat and to run twice at once."""
    ports = ports_of(self.app)
    await _join_and_publish(ports, job_id, wave)


async def _join_and_publish(ports: Ports, job_id: str, wave: int) -> None:
    if await join_job(ports, job_id, wave) == "next wave":
        await ports.publisher.fanout(job_id, wave=wave + 1)


async def join_job(ports: Ports, job_id: str, wave: int) -> str:
    """``joined``, ``next wave``, or the ledger's word for why there was nothing to do."""
    jobs = ports.ledger.jobs
    word = await jobs.join(job_id)
    if word == "wait":
        (standing,) = await jobs.standings([job_id])
        return "next wave" if standing is not None and (wave + 1) * WAVE < (standing.n or 0) else "wait"
    if word == "poison":
        await jobs.stop(job_id, "failed", "the join was started several times and never came to an end")
    if word != "go":
        return word
    await _conclude(ports, job_id)
    return "joined"


async def _conclude(ports: Ports, job_id: str) -> None:
    jobs = ports.ledger.jobs
    known, result = await jobs.read(job_id), await jobs.result(job_id)
    if known is None or result is None:
        return
    job = known[0]
    try:
        reason = joins.check_policy(
            job.policy, job.quorum, sum(part.state == "succeeded" for part in result.parts), result.parts_failed
        )
        if reason is not None:
            await jobs.conclude(job_id, "failed", error=f"{reason}{_first_failure(result)}")
        else:
            joined = joins.join(job.join or DEFAULT_JOINS[job.kind], *_sorted_out(result))
            await jobs.conclude(job_id, "succeeded", output=joined.output, details=joined.details)
    except Unreachable:
        raise  # the sweeper has it joined again
    except PointsmanError as error:
        await jobs.conclude(job_id, "failed", error=str(error))
    except Exception as error:
        log.exception("join of %s failed", job_id)
        await jobs.conclude(job_id, "failed", error=f"the join failed: {type(error).__name__}")
    if any(part.state == "running" for part in result.parts):
        # It was decided early: nobody will read what the other calls would say.
        await ports.ledger.fleet.cancel(job_id)


def _sorted_out(result: Result) -> tuple[list[joins.Piece], list[joins.Missing]]:
    pieces = [
        joins.Piece(part.index, part.title, part.output)
        for part in result.parts
        if part.state == "succeeded" and part.output is not None
    ]
    missing = [
        joins.Missing(part.index, part.title, part.error or part.state)
        for part in result.parts
        if part.state == "failed"
    ]
    return pieces, missing


def _first_failure(result: Result) -> str:
    first = next((part for part in result.parts if part.state == "failed"), None)
    return f"; part {first.index + 1}: {first.error}" if first is not None and first.error else ""
