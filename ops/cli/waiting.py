"""Waiting for a job, a batch or an evaluation with progress bars on stderr, and printing the outcome of a job."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, cast

from ops.cli.environment import find_workers, workers_of
from ops.cli.exits import Failure, describe, exit_of_state
from ops.cli.render import note, print_json, print_text, printable, summary

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ops.evaluate.profiling.asking import EvalRun
    from producer import AsyncProducer
    from tasks.contract.job_fields import Unread
    from tasks.contract.result import Part, Result

#: Seconds in which workers must answer; the second time is for busy ones.
ANSWER_TIMEOUTS = (1.0, 5.0)
#: Parts with a bar of their own: the running ones. The total counts the others.
MOST_ROWS = 8

_ENDED = {"succeeded", "failed", "skipped", "cancelled"}


def _bars() -> Progress:
    """Bars on stderr, which vanish at the end; without a terminal nothing is shown."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=20),
        progress.TextColumn("{task.fields[figure]}", markup=False),
        progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def job_progress(job_id: str) -> Iterator[Callable[[Result], None]]:
    """On a terminal, bars for a job and its running parts; elsewhere one line. Yields a function that shows the job."""
    if not sys.stderr.isatty():
        note(f"job {job_id}")
    rows: dict[int, TaskID] = {}
    with _bars() as bars:
        total = bars.add_task(f"{job_id} accepted", total=None, figure="")

        def show(result: Result) -> None:
            ended = sum(part.state in _ENDED for part in result.parts)
            many = result.parts_total > 1
            bars.update(
                total,
                description=f"{result.id} {result.state}",
                total=result.parts_total if many else None,
                completed=ended if many else 0,
                figure=f"{ended}/{result.parts_total} parts" if many else _describe(*result.parts[:1]),
            )
            parts = {part.index: part for part in shown_parts(result)} if many else {}
            for index in rows.keys() - parts.keys():
                bars.remove_task(rows.pop(index))
            for index, part in parts.items():
                if index not in rows:
                    rows[index] = bars.add_task(_title(part), total=None, figure="")
                done = part.state in _ENDED
                bars.update(rows[index], total=1 if done else None, completed=int(done), figure=_describe(part))
            _check_interrupted()

        yield show


@contextmanager
def batch_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """On a terminal, one bar for many jobs; elsewhere nothing. Yields a function of the jobs that ended, and of all."""
    with _bars() as bars:
        row = bars.add_task(title, total=None, figure="")

        def show(ended: int, jobs: int) -> None:
            bars.update(row, completed=ended, total=jobs, figure=f"{ended}/{jobs}")
            _check_interrupted()

        yield show


@contextmanager
def telling_what_goes_on(what: str, again: str) -> Iterator[None]:
    """Raise `Failure` for Ctrl-C, or if Redis is lost. It says `what` goes on; `again` is its remedy."""
    try:
        yield
    except asyncio.CancelledError:
        raise Failure("interrupted", f"interrupted; {what}", remedy=again) from None
    except Exception as error:
        failure = describe(error)
        if failure.code != "unreachable":
            raise
        raise Failure("unreachable", f"{failure.message}; {what}", remedy=again) from error


def shown_parts(result: Result) -> list[Part]:
    """Return all parts if they are few, else the first running ones."""
    if result.parts_total <= MOST_ROWS:
        return list(result.parts)
    return [part for part in result.parts if part.state == "running"][:MOST_ROWS]


def _title(part: Part) -> str:
    title = printable(part.title).replace("\n", " ")
    return f"  {part.index + 1}. {title[:30]}" if title else f"  part {part.index + 1}"


def _describe(part: Part | None = None) -> str:
    if part is None:
        return ""
    words: list[str] = [part.state]
    if part.model:
        words.append(part.model)
    if part.attempts > 1:
        words.append(f"attempt {part.attempts}")
    return " · ".join(words)


async def wait_for(producer: AsyncProducer, job_id: str, *, timeout: float | None) -> Result:
    """Return the result once the job has ended.

    Raises:
        Failure: after `timeout` seconds, for Ctrl-C, or if Redis is lost. Its remedy is the command that waits again.
    """
    again = f"pointsman result {job_id} --wait"
    try:
        with telling_what_goes_on(f"job {job_id} goes on", again), job_progress(job_id) as show:
            # Closed at once, also after Ctrl-C: the generator holds a connection.
            watching = cast("AsyncGenerator[Result]", producer.watch(job_id, timeout=timeout))
            async with aclosing(watching) as results:
                async for result in results:
                    show(result)
    except TimeoutError:
        raise Failure(
            "not_ended", f"job {job_id} has not ended after {timeout:g} s; it goes on", remedy=again
        ) from None
    return result


def _check_interrupted() -> None:
    """Raise `CancelledError` once more if a Ctrl-C was lost.

    Before Python 3.12, `asyncio.wait_for` swallows a cancellation that arrives just as its awaitable is done
    (python/cpython#86296), and the Redis client sends every command through it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def print_outcome(result: Result, *, as_json: bool) -> int:
    """Print a job's output on stdout and its outcome on stderr; return the exit code."""
    if as_json:
        print_json(result.model_dump(mode="json"))
        return exit_of_state(result.state)
    if result.state == "succeeded":
        print_text(result.output or "")
        sys.stdout.flush()
    elif result.final:
        note(f"pointsman: error: job {result.id} {_outcome(result)}")
        note(f"  try: pointsman explain {result.id}")
    for one in _unread(result):
        note(f"not read of {one.file}: {one.describe()}")
    note(summary(result))
    return exit_of_state(result.state)


def _unread(result: Result) -> list[Unread]:
    """What of the job's files was not read. A join may have a detail of the same name, which holds no objects."""
    from tasks.contract.job_fields import Unread

    found = result.details.get("unread_files", result.details.get("unread"))
    return [Unread.model_validate(one) for one in (found if isinstance(found, list) else ()) if isinstance(one, dict)]


def _outcome(result: Result) -> str:
    word = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired at its deadline"}[result.state]
    return f"{word}: {result.error}" if result.error and result.state == "failed" else word


def name_run(run: str | None) -> str:
    """Return the given name of the run, or a new one; raise `Failure` for an invalid name."""
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
    from tasks.queue.address import redis_url
    from tasks.queue.app import ROUTE, model_queue

    wanted = [ROUTE, *map(model_queue, models)]
    missing = wanted
    for timeout in ANSWER_TIMEOUTS:
        workers = await find_workers(redis_url(), timeout=timeout)
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
    from ops.evaluate.profiling.asking import EvalRun, NotEnded

    remedy = f"{again} --run {name}"
    note(f"run {name}")
    try:
        with telling_what_goes_on("the submitted jobs go on", remedy), batch_progress(name) as show:
            run = EvalRun(producer, name, show=show, end=None if timeout is None else time.monotonic() + timeout)
            await run.open(file)
            yield run
    except NotEnded as error:
        raise Failure(
            "not_ended", f"{error.left} jobs have not ended after {timeout:g} s; they go on", remedy=remedy
        ) from None
