"""Many jobs from one JSONL file, one job a line. Beat sends `tasks.batch` for a schedule; the CLI reads here too."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger
from pydantic_core import from_json

from tasks.accept import accept
from tasks.config.config import Config
from tasks.contract.encoding import open_text_file
from tasks.contract.errors import BadInput, PointsmanError, Unreachable
from tasks.contract.job import Job, parse_job, ulid
from tasks.ledger.batches import Batches
from tasks.queue.ports import Ports
from tasks.workflows.check_job import check_documents, check_job

log = get_task_logger(__name__)

#: Jobs that are accepted in one round trip.
CHUNK = 500


@shared_task(name="tasks.batch", bind=True)
async def batch(self: Any, schedule: str, tick: int) -> None:
    """Submit the batch of a schedule for one tick (Unix seconds).

    Safe to repeat: the ids of its jobs follow from the tick.
    """
    ports = self.app.ports()
    if schedule not in ports.config.schedules:
        log.warning("no such schedule any more: %s", schedule)
        return
    await submit_scheduled(ports, schedule, tick)


async def submit_scheduled(ports: Ports, schedule: str, tick: int) -> None:
    config, keep = ports.config, ports.config.limits.keep_seconds
    file = config.folder / config.schedules[schedule].batch
    batches = Batches(ports.ledger.store)
    name = scheduled_id(schedule, tick, 0)
    await batches.open(name, file=str(file), schedule=schedule, at=float(tick), keep_seconds=keep)
    try:
        jobs = [
            job.model_copy(
                update={
                    "id": scheduled_id(schedule, tick, line),
                    # The id identifies the job; a key in the file would stand for another request at each tick.
                    "idempotency_key": None,
                    "labels": {**job.labels, "schedule": schedule, "batch": name},
                }
            )
            # Reading documents takes time that the loop's thread doesn't have.
            for line, job in await asyncio.to_thread(lambda: list(read_jobs(file, config)))
        ]
        for start in range(0, len(jobs), CHUNK):
            chunk = jobs[start : start + CHUNK]
            await accept(chunk, ledger=ports.ledger, publisher=ports.publisher, config=config)
            await batches.add(name, [job.id for job in chunk], keep_seconds=keep)
    except Unreachable:
        raise
    except PointsmanError as error:
        log.error("schedule %s: %s", schedule, error)  # noqa: TRY400 - the message is enough
        await batches.fail(name, str(error))
    except Exception as error:
        # Else the batch would show no jobs and no reason.
        log.exception("schedule %s failed in our own code", schedule)
        await batches.fail(name, f"it could not be read: {type(error).__name__}; see the log of the worker")


def scheduled_id(schedule: str, tick: int, line: int) -> str:
    """The id of a schedule's job: the same for the same line at the same tick."""
    digest = hashlib.sha256(f"{schedule}:{tick}:{line}".encode()).digest()
    return ulid(tick * 1000, int.from_bytes(digest[:10], "big"))


def read_jobs(file: Path, config: Config) -> Iterator[tuple[int, Job]]:
    """The jobs of a JSONL file with their line numbers, each checked.

    Raises:
        BadInput: for the first line that is no job (``line 3.model``), or a file that can't be read or is empty.
    """
    found = False
    try:
        with open_text_file(file) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    # As over HTTP: no NaN, no half surrogate pairs, bounded nesting.
                    data = from_json(line, allow_inf_nan=False)
                except (ValueError, UnicodeError) as error:
                    problem = str(error).replace(" at line 1 column", " at column")
                    raise BadInput(f"line {number}", f"is not JSON: {problem}", "write one job, as JSON") from None
                job = parse_job(data, at=f"line {number}")
                if job.files is not None:
                    from tasks.parallel.job_files import replace_files  # noqa: PLC0415 - few jobs bring documents

                    job = replace_files(job, config, at=f"line {number}")
                check_job(job, config, at=f"line {number}")
                if job.text is not None and job.kind != "single":
                    check_documents(job, config, at=f"line {number}")
                found = True
                yield number, job
    except FileNotFoundError:
        raise BadInput("file", f"{file} does not exist") from None
    except UnicodeDecodeError as error:
        raise BadInput("file", f"{file} is not text in {error.encoding}", "save it in UTF-8") from None
    except OSError as error:
        raise BadInput("file", f"{file} can't be read: {error.strerror}") from None
    if not found:
        raise BadInput("file", f"{file} holds no job", "write one job a line, as JSON")
