"""Waiting for a job, a batch or an evaluation with progress bars on stderr, and printing the outcome of a job."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ops.cli.environment import find_workers, workers_of
from ops.cli.exits import Failure, describe, exit_of_state
from ops.cli.render import note, print_json, print_text, printable, summary

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ops.evaluate.profiling.asking import EvalRun
    from producer import AsyncProducer
    from tasks.contract.result import Part, Result

#: Seconds in which workers must answer; the second time is for busy ones.
ANSWER_TIMEOUTS = (1.0, 5.0)
#: Parts with a bar of their own: the running ones. The total counts the others.
MOST_ROWS = 8

_ENDED = {"succeeded", "failed", "skipped", "cancelled"}


class JobProgress:
    """On a terminal, bars for a job and its running parts, which vanish at the end; elsewhere one line."""

    def __init__(self, job_id: str) -> None:
        self._job = job_id
        self._rows: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        from rich import progress
        from rich.console import Console

        self._on_terminal = sys.stderr.isatty()
        if not self._on_terminal:
            note(f"job {self._job}")
            return self
        self._bars = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.fields[figure]}", markup=False),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=5,
        )
        self._total = self._bars.add_task(f"{self._job} accepted", total=None, figure="")
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_terminal:
            self._bars.stop()

    def show(self, result: Result) -> None:
        if not self._on_terminal:
            return
        ended = sum(part.state in _ENDED for part in result.parts)
        many = result.parts_total > 1
        self._bars.update(
            self._total,
            description=f"{result.id} {result.state}",
            total=result.parts_total if many else None,
            completed=ended if many else 0,
            figure=f"{ended}/{result.parts_total} parts" if many else _describe(*result.parts[:1]),
        )
        if many:
            self._show_parts(shown_parts(result))

    def _show_parts(self, parts: list[Part]) -> None:
        for index in self._rows.keys() - {part.index for part in parts}:
            self._bars.remove_task(self._rows.pop(index))
        for part in parts:
            if part.index not in self._rows:
                self._rows[part.index] = self._bars.add_task(_title(part), total=None, figure="")
            done = part.state in _ENDED
            self._bars.update(
                self._rows[part.index], total=1 if done else None, completed=int(done), figure=_describe(part)
            )


class BatchProgress:
    """On a terminal, one bar for the jobs of a batch; elsewhere nothing."""

    def __init__(self, batch_id: str, jobs: int) -> None:
        self._batch = batch_id
        self._jobs = jobs

    def __enter__(self) -> Self:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(self._batch, total=self._jobs)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, ended: int, jobs: int | None = None) -> None:
        """Show how many jobs have ended; `jobs` changes the total."""
        self._bar.update(self._task, completed=ended, total=jobs)


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
        with JobProgress(job_id) as progress:
            # Closed at once, also after Ctrl-C: the generator holds a connection.
            watching = cast("AsyncGenerator[Result]", producer.watch(job_id, timeout=timeout))
            async with aclosing(watching) as results:
                async for result in results:
                    progress.show(result)
                    check_interrupted()
    except TimeoutError:
        raise Failure(
            "not_ended", f"job {job_id} has not ended after {timeout:g} s; it goes on", remedy=again
        ) from None
    except asyncio.CancelledError:
        raise Failure("interrupted", f"interrupted; job {job_id} goes on", remedy=again) from None
    except Exception as error:
        failure = describe(error)
        if failure.code != "unreachable":
            raise
        raise Failure("unreachable", f"{failure.message}; job {job_id} goes on", remedy=again) from error
    return result


def check_interrupted() -> None:
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
    note(summary(result))
    return exit_of_state(result.state)


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
