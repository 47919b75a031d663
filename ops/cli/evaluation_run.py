"""What `pointsman profile` and `pointsman eval prompts` share: a run through the queues, before the user's eyes."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ops.evaluate.profiling.asking import Run
    from producer import AsyncProducer

__all__ = ["Judge", "RunName", "Timeout", "check_workers", "named", "running"]

RunName = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Name this run, or go on with the run of that name."),
]
Judge = Annotated[
    str | None,
    typer.Option("--judge", metavar="MODEL", help="Grades what no rule can tell, and tells refusals from answers."),
]
Timeout = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Seconds to wait; the run goes on after.")
]

#: Seconds in which workers must answer; those that are busy get the second.
PATIENCE = (1.0, 5.0)


def named(run: str | None) -> str:
    """The name of the run: the one that was given, or a new one."""
    from ops.cli.exits import Failure
    from ops.evaluate.profiling.asking import RUN_NAME
    from tasks.contract.ids import new_id

    if run is None:
        return new_id()
    if not re.fullmatch(RUN_NAME, run):
        raise Failure(
            "usage", f"--run {run!r} is no name", field="run", remedy="lower case letters, digits, '.', '_' and '-'"
        )
    return run


async def check_workers(models: Sequence[str]) -> None:
    """Make sure that somebody works for each model, and routes: else the run would wait forever.

    Raises:
        Failure: naming the queues that nobody serves.
    """
    import asyncio

    from ops.cli.exits import Failure
    from ops.cli.workers import ask_workers, workers_of
    from tasks.queue.address import redis_url
    from tasks.queue.app import ROUTE, model_queue

    wanted = [ROUTE, *map(model_queue, models)]
    missing = wanted
    for patience in PATIENCE:
        workers = await asyncio.to_thread(ask_workers, redis_url(), timeout=patience)
        missing = [queue for queue in wanted if not workers_of(queue, workers)]
        if not missing:
            return
    raise Failure(
        "no_workers",
        f"nobody works for {', '.join(missing)}",
        remedy="start everything with `pointsman up`, or the workers of these queues",
    )


@asynccontextmanager
async def running(
    producer: AsyncProducer, name: str, *, file: str, again: str, timeout: float | None
) -> AsyncIterator[Run]:
    """A run that shows its progress. Whatever ends it early, the user learns how to take it up: `again`, a command.

    Raises:
        Failure: for the end of the time, Ctrl-C, or a Redis that went away.
    """
    import asyncio

    from ops.cli.exits import Failure, describe
    from ops.cli.progress import BatchProgress
    from ops.cli.render import note
    from ops.cli.waiting import check_interrupted
    from ops.evaluate.profiling.asking import NotEnded, Run

    remedy = f"{again} --run {name}"
    note(f"run {name}")
    try:
        with BatchProgress(name, 0) as bar:

            def show(ended: int, of: int) -> None:
                bar.show(ended, of)
                check_interrupted()

            run = Run(producer, name, show=show, end=None if timeout is None else time.monotonic() + timeout)
            await run.open(file)
            yield run
    except NotEnded as error:
        raise Failure(
            "not_ended", f"{error.left} jobs have not ended after {timeout:g} s; they go on", remedy=remedy
        ) from None
    except asyncio.CancelledError:
        raise Failure("interrupted", "interrupted; what was asked goes on", remedy=remedy) from None
    except Exception as error:
        failure = describe(error)
        if failure.code != "unreachable":
            raise
        raise Failure("unreachable", failure.message, remedy=f"once Redis is back: {remedy}") from error
