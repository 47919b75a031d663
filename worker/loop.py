"""The one event loop of a worker process, in a thread of its own: all model calls of the process run on it.

`measure_loop_lag` shows how late the loop runs, for benchmarks and diagnosis: a loop that is busy with one thing delays
every call and every heartbeat of the process.

`drive` runs Celery's tracer, a plain function that calls the task, on the loop, where the task must await. The tracer
runs unmodified, in a greenlet on the loop's thread: signals, task, acknowledgement, result. Where the task awaits, the
greenlet steps the task's coroutine itself and passes only bare futures to the loop. So every step of the coroutine runs
in the task's own greenlet. Celery keys its stack of running tasks by greenlet; so `self.request`, `current_task` and
the context variables are this task's after every await. (SQLAlchemy's asyncio extension solves the same problem in the
same way.)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import types
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from pathlib import Path
from typing import Any, TypeVar

import greenlet
import structlog

from tasks.contract.atomic_file import write_at_once

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds that tasks have to end when the loop is closed: they wait for nothing but Redis.
STOP_TIMEOUT = 5.0
#: Exit code of a process whose loop or background task died. The broker hands its messages to other workers, the
#: sweeper recovers its calls.
EX_SOFTWARE = 70
#: Seconds between two measurements of the lag.
LAG_INTERVAL = 0.01
#: Measurements of the lag between two writings of the file: a second's.
WRITE_EVERY = 100
#: Upper bounds of the histogram in milliseconds: 0.1 ms to 38 s, each a tenth above the one before.
BOUNDS_MS = tuple(round(0.1 * 1.1**step, 4) for step in range(136))


class WorkerStopping(RuntimeError):
    """The process ends before the call: the broker keeps its message, and the sweeper recovers its part."""


class EventLoop:
    """Runs uvloop where it is installed, else asyncio's own loop."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._closing = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="pointsman-loop", daemon=True)
        self._thread.start()

    @property
    def is_ours(self) -> bool:
        """Whether this process started the loop; a forked child needs one of its own."""
        return self._pid == os.getpid()

    @property
    def here(self) -> bool:
        """Whether the caller is on the loop's own thread, where nothing may block."""
        return threading.get_ident() == self._thread.ident

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop, soon. From any thread."""
        self.loop.call_soon_threadsafe(function, *args)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it on this thread, which must not be the loop's.

        Raises:
            WorkerStopping: if the loop was stopped meanwhile.
        """
        if self.here:
            coroutine.close()
            raise RuntimeError("this would block the event loop; await it instead")
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
        except FutureCancelled:
            raise WorkerStopping("the worker process is stopping") from None

    def close(self) -> None:
        """Cancel all tasks and end the thread. Safe to call twice."""
        if self._closing:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(timeout=2 * STOP_TIMEOUT)
        self._closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=STOP_TIMEOUT)
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        except BaseException:
            # SystemExit and KeyboardInterrupt of a callback end the loop, and so does a failure of its own.
            log.critical("loop.died", exc_info=True)
        if not self._closing:
            # Without a loop the calls would never end, nor would their leases: the process must go.
            os._exit(EX_SOFTWARE)


_mine: EventLoop | None = None


def event_loop() -> EventLoop:
    """This process's loop, started at the first call."""
    global _mine  # noqa: PLW0603 - one a process
    if _mine is None or not _mine.is_ours:
        _mine = EventLoop()
    return _mine


async def _cancel_all() -> None:
    others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    end = asyncio.get_running_loop().time() + STOP_TIMEOUT
    while others and asyncio.get_running_loop().time() < end:
        # Repeated, since a cancellation that meets a wait that just ended gets lost (cpython#86296).
        for task in others:
            task.cancel()
        _, others = await asyncio.wait(others, timeout=0.1)


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform != "win32":
        try:
            import uvloop  # noqa: PLC0415 - where it is installed
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


async def measure_loop_lag(file: Path) -> None:
    """Measure how late the running loop is until cancelled, and write a file once a second.

    The file is a JSON object: `counts` of measurements since the start, one for each of `bounds_ms` and one above them,
    and made of these `samples`, `p50_ms`, `p99_ms` and `max_ms`. For a period, subtract the `counts` of two readings.
    """
    loop = asyncio.get_running_loop()
    counts = [0] * (len(BOUNDS_MS) + 1)
    longest = 0.0
    measured = 0
    while True:
        due = loop.time() + LAG_INTERVAL
        try:
            await asyncio.sleep(LAG_INTERVAL)
        except asyncio.CancelledError:
            _write_lag(file, counts, longest)
            raise
        late = max(0.0, 1000 * (loop.time() - due))
        counts[bisect_left(BOUNDS_MS, late)] += 1
        longest = max(longest, late)
        measured += 1
        if measured % WRITE_EVERY == 0:
            _write_lag(file, counts, longest)


def quantile(counts: Sequence[int], share: float) -> float:
    """The upper bound in ms below which this `share` of the measurements lies; 0 without measurements."""
    left = share * sum(counts)
    if left == 0:
        return 0.0
    for bound, count in zip(BOUNDS_MS, counts, strict=False):
        left -= count
        if left <= 0:
            return bound
    return float("inf")


def _write_lag(file: Path, counts: Sequence[int], longest: float) -> None:
    fields = {
        "samples": sum(counts),
        "p50_ms": quantile(counts, 0.5),
        "p99_ms": min(quantile(counts, 0.99), round(longest, 3)),
        "max_ms": round(longest, 3),
        "bounds_ms": BOUNDS_MS,
        "counts": counts,
    }
    write_at_once(file, json.dumps(fields))


class _TaskGreenlet(greenlet.greenlet):
    """Runs the tracer of one task."""

    def __init__(self, function: Callable[[], Any]) -> None:
        driver = greenlet.getcurrent()
        super().__init__(function, driver)
        # The driver runs in its asyncio task's context: the tracer sees and sets the same variables.
        self.gr_context = driver.gr_context


def in_task() -> bool:
    """Whether the caller runs in a task on the loop, where it must await instead of block."""
    return isinstance(greenlet.getcurrent(), _TaskGreenlet)


def wait_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from within a task's greenlet, while the loop serves other tasks.

    Raises the coroutine's own errors, and `asyncio.CancelledError` where the task is cancelled meanwhile.
    """
    driver = greenlet.getcurrent().parent
    assert driver is not None
    error: BaseException | None = None
    while True:
        try:
            future = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        error = None
        try:
            driver.switch(future)
        except BaseException as thrown:  # noqa: BLE001 - every error goes to the coroutine
            error = thrown


async def drive(
    function: Callable[[], T], translate: Callable[[BaseException], BaseException] = lambda error: error
) -> T:
    """Run a function in a greenlet of its own; await this in an asyncio task.

    An error that is thrown into this coroutine is raised by the `wait_here` in which the function waits. asyncio can
    interrupt a task in one way only, by cancelling it: `translate` returns the error that the function gets instead.
    """
    return await _steps(function, translate)


@types.coroutine
def _steps(function: Callable[[], T], translate: Callable[[BaseException], BaseException]) -> Generator[Any, Any, T]:
    runner = _TaskGreenlet(function)
    yielded = runner.switch()
    while not runner.dead:
        try:
            yield yielded
        except BaseException as error:  # noqa: BLE001 - every error goes to the function
            yielded = runner.throw(translate(error))
        else:
            yielded = runner.switch()
    return yielded  # type: ignore[no-any-return]
