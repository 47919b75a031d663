"""A run of many questions through the queues with a progress bar: for `pointsman profile` and `pointsman eval`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.evaluate.profiling.asking import EvalRun
    from producer import AsyncProducer

__all__ = ["check_workers", "name_run", "open_run"]

#: Seconds in which workers must answer; the second time is for busy ones.
ANSWER_TIMEOUTS = (1.0, 5.0)


def name_run(run: str | None) -> str:
    """Return the given name of the run, or a new one; raise `Failure` for an invalid name."""
    from ops.cli.exits import Failure
    from ops.evaluate.profiling.asking import RUN_NAME
    from tasks.contract.job import new_id

    if run is None:
        return new_id()
    if not re.fullmatch(RUN_NAME, run):
        raise Failure(
            "usage", f"--run {run!r} is not a name", field="run", remedy="lower case letters, digits, '.', '_' and '-'"
        )
    return run


async def check_workers(models: Sequence[str]) -> None:
    """Check that the route queue and each model have a worker; without one the run would wait forever.

    Raises:
        Failure: with the queues that no worker serves.
    """
    import asyncio

    from ops.cli.exits import Failure
    from ops.cli.workers import find_workers, workers_of
    from tasks.queue.address import redis_url
    from tasks.queue.app import ROUTE, model_queue

    wanted = [ROUTE, *map(model_queue, models)]
    missing = wanted
    for timeout in ANSWER_TIMEOUTS:
        workers = await asyncio.to_thread(find_workers, redis_url(), timeout=timeout)
        missing = [queue for queue in wanted if not workers_of(queue, workers)]
        if not missing:
            return
    raise Failure(
        "no_workers",
        f"no worker serves {', '.join(missing)}",
        remedy="start everything with `pointsman up`, or the workers of these queues",
    )


@asynccontextmanager
async def open_run(
    producer: AsyncProducer, name: str, *, file: str, again: str, timeout: float | None
) -> AsyncIterator[EvalRun]:
    """Open a run that shows its progress. `again` is the command that goes on with it, without the name of the run.

    Raises:
        Failure: after `timeout` seconds, for Ctrl-C, or if Redis is lost. Its remedy is `again`.
    """
    import asyncio

    from ops.cli.exits import Failure, describe
    from ops.cli.progress import BatchProgress
    from ops.cli.render import note
    from ops.cli.waiting import check_interrupted
    from ops.evaluate.profiling.asking import EvalRun, NotEnded

    remedy = f"{again} --run {name}"
    note(f"run {name}")
    try:
        with BatchProgress(name, 0) as bar:

            def show(ended: int, of: int) -> None:
                bar.show(ended, of)
                check_interrupted()

            run = EvalRun(producer, name, show=show, end=None if timeout is None else time.monotonic() + timeout)
            await run.open(file)
            yield run
    except NotEnded as error:
        raise Failure(
            "not_ended", f"{error.left} jobs have not ended after {timeout:g} s; they go on", remedy=remedy
        ) from None
    except asyncio.CancelledError:
        raise Failure("interrupted", "interrupted; the submitted jobs go on", remedy=remedy) from None
    except Exception as error:
        failure = describe(error)
        if failure.code != "unreachable":
            raise
        raise Failure("unreachable", failure.message, remedy=f"once Redis is back: {remedy}") from error
