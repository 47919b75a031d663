"""A Celery pool that awaits: thousands of calls in flight in one process, on one event loop.

``celery -A worker worker -c 1000`` uses it: it is this application's default (``worker_pool`` in its configuration). A
task that is written as ``async def`` runs on the loop (`worker.bridge` says how); a plain one runs in a thread, where
it may block. Celery's tracer, signals, retries, acknowledgements and chords are Celery's own.

Beside what the threads pool can do it knows soft and hard time limits, ``revoke(terminate=True)`` in mid-call, growing
and shrinking while it runs, and a shutdown that lets calls finish within the grace and hands the rest back. Of a plain
task it can only forget the outcome: no thread can be ended from outside.

Two threads share the work. The loop's runs the tasks. Celery's own receives messages and is told of what has ended, a
batch at a time: acknowledgements and events block on the network.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.concurrency.base import BasePool
from celery.exceptions import ImproperlyConfigured, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from celery.utils import threads as celery_threads
from celery.worker import state as worker_state

from tasks.queue.waker import Waker
from worker.bridge import drive
from worker.loop import event_loop

__all__ = ["TaskPool"]

log = structlog.get_logger(__name__)

#: Threads for plain tasks, at most; they are made when they are needed.
MOST_THREADS = 32
#: Seconds that ended tasks wait for more to end, so that they are told together.
GATHER = 0.002
#: Seconds after which Celery's thread is taken to be busy (it sleeps through a soft shutdown): another one tells then.
STALE = 0.25
#: Seconds between two cancellations of a task that did not end at the first.
INSIST = 0.1
#: Seconds that cancelled tasks have to let go of what they hold.
LET_GO = 5.0


@dataclass(eq=False, slots=True)
class _Job:
    """One task that was given to the pool. `id` stands where other pools have the id of a process."""

    id: int
    target: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    callback: Callable[..., Any]
    accept: Callable[[int, float], Any]
    failed: Callable[..., Any]
    timed_out: Callable[[bool, float], Any]
    soft_timeout: float | None
    timeout: float | None
    awaits: bool
    #: The running task, once it is on the loop.
    task: asyncio.Task[Any] | None = None
    #: What is thrown into the task in place of the cancellation that interrupts it.
    instead: BaseException | None = None
    #: Its outcome is not wanted any more: it was terminated, or its hard limit passed.
    dropped: bool = False

    def meant(self, error: BaseException) -> BaseException:
        """What an error that interrupts the task means to it."""
        if not isinstance(error, asyncio.CancelledError) or self.instead is None or self.dropped:
            return error
        error, self.instead = self.instead, None
        if self.task is not None:
            # Else `asyncio.timeout` inside the task would take itself for cancelled.
            self.task.uncancel()
        return error


class ApplyResult:
    """What Celery keeps of a task that was given to the pool."""

    def terminate(self, signal: int) -> None:
        """Nothing: Celery has called `TaskPool.terminate_job` before, or will once the task is accepted."""


class TaskPool(BasePool):
    """`limit` is the number of tasks that run at once; it may change while they do."""

    body_can_be_buffer = True
    # Stopping waits for tasks, which a signal handler must not.
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = self.limit or 1
        self._ids = itertools.count(1)
        #: Everything that has been given to the pool and has not ended.
        self._jobs: dict[int, _Job] = {}
        self._starting: deque[_Job] = deque()
        self._start_called = False
        # Touched on the loop's thread alone.
        self._waiting: deque[_Job] = deque()
        self._running = 0
        #: What Celery's thread shall be told, in order.
        self._news: deque[Callable[[], Any]] = deque()
        self._telling = threading.RLock()
        self._told = threading.Event()
        self._tell_called = False
        self._tellings = 0
        self._bell: Waker | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._awaits: dict[str, bool] = {}

    # -- Celery's side: its own thread ---------------------------------------------------------------

    def on_start(self) -> None:
        if celery_threads.USE_FAST_LOCALS:  # type: ignore[attr-defined]
            raise ImproperlyConfigured(
                "USE_FAST_LOCALS is set: Celery would mix up the requests of tasks that await; unset it"
            )
        self._loop = event_loop()

    def register_with_event_loop(self, loop: Any) -> None:
        # A bell, not `loop.call_soon`: what is called so is called before the loop waits, and what it calls soon in
        # turn (acknowledgements, room for the next message) after.
        self._bell = self._bell or Waker()
        loop.add_reader(self._bell.sock, self._answer)

    def _answer(self) -> None:
        if self._bell is not None:
            self._bell.clear()
        self._tell()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[..., Any] = lambda *_: None,
        accept_callback: Callable[[int, float], Any] = lambda *_: None,
        error_callback: Callable[..., Any] = lambda *_: None,
        timeout_callback: Callable[[bool, float], Any] = lambda *_: None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Any:
        job = _Job(
            id=next(self._ids),
            target=target,
            args=args,
            kwargs=kwargs or {},
            callback=callback,
            accept=accept_callback,
            failed=error_callback,
            timed_out=timeout_callback,
            soft_timeout=soft_timeout or self.options.get("soft_timeout"),
            timeout=timeout or self.options.get("timeout"),
            awaits=self._is_coroutine(args),
        )
        self._jobs[job.id] = job
        self._starting.append(job)
        if not self._start_called:
            # One call serves all that are received together.
            self._start_called = True
            self._loop.call(self._start_received)
        return ApplyResult()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:  # noqa: ARG002 - Celery's signature
        """Cancel a task in mid-call. Its end is told nobody: whoever terminates it says that it was revoked."""
        job = self._jobs.get(pid)
        if job is not None:
            job.dropped = True
            self._loop.call(self._cancel, job)

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self._loop.call(self._start_waiting)

    def shrink(self, n: int = 1) -> None:
        """Tasks above the new limit run to their end; none is started before there is room."""
        self.limit = max(1, self.limit - n)

    def on_stop(self) -> None:
        """Wait for all tasks: a warm shutdown has no limit of its own."""
        while self._jobs:
            self._told.wait(0.1)
            self._told.clear()
            self._tell()
        self._tell()
        self._end_threads()

    def on_terminate(self) -> None:
        """Cancel all tasks. Their messages stay unacknowledged, so the broker hands them to another worker."""
        end = time.monotonic() + LET_GO
        for job in tuple(self._jobs.values()):
            self.terminate_job(job.id)
        while any(job.awaits for job in self._jobs.values()) and time.monotonic() < end:
            self._told.wait(INSIST)
            self._told.clear()
        self._tell()
        self._end_threads()

    def _end_threads(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]
        return info | {
            "loop": self._loop.kind,
            "running": self._running,
            "waiting": len(self._waiting) + len(self._starting),
        }

    def _is_coroutine(self, args: Sequence[Any]) -> bool:
        name = args[0] if args else None
        known = self._awaits.get(name) if isinstance(name, str) else False
        if known is None:
            task = self.app.tasks.get(name)
            known = self._awaits[str(name)] = task is not None and iscoroutinefunction(task.run)
        return known

    # -- telling Celery ------------------------------------------------------------------------------

    def _tell_soon(self, news: Callable[[], Any]) -> None:
        self._news.append(news)
        if not self._tell_called:
            self._tell_called = True
            self._loop.loop.call_later(GATHER, self._call_celery)

    def _call_celery(self) -> None:
        self._told.set()
        if self._bell is None:
            self._loop.loop.run_in_executor(None, self._tell)
            return
        self._bell.notify()
        self._loop.loop.call_later(STALE, self._tell_if_stale, self._tellings)

    def _tell_if_stale(self, before: int) -> None:
        """Celery's thread has not come since: somebody else tells."""
        if self._tellings == before:
            self._loop.loop.run_in_executor(None, self._tell)

    def _tell(self) -> None:
        """Run what is to be told; on Celery's thread, unless that one is busy."""
        with self._telling:
            self._tell_called = False
            self._tellings += 1
            while self._news:
                news = self._news.popleft()
                try:
                    news()
                except (WorkerShutdown, WorkerTerminate):
                    raise
                except Exception:
                    log.exception("pool.callback_failed")

    # -- the loop's side -----------------------------------------------------------------------------

    def _start_received(self) -> None:
        self._start_called = False
        while self._starting:
            self._waiting.append(self._starting.popleft())
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self.limit:
            job = self._waiting.popleft()
            if job.dropped:
                self._forget(job)
                continue
            self._running += 1
            job.task = self._loop.loop.create_task(self._run(job) if job.awaits else self._run_in_thread(job))

    def _cancel(self, job: _Job) -> None:
        """Cancel until it has ended: a task may catch one cancellation, and a wait that just ended loses it."""
        if job.task is None:
            self._forget(job)  # it waits, and will not be started
            return
        if job.task.done():
            return
        job.task.cancel()
        if job.awaits:
            self._loop.loop.call_later(INSIST, self._cancel, job)

    async def _run(self, job: _Job) -> None:
        loop = self._loop.loop
        started = time.monotonic()
        self._tell_soon(lambda: job.accept(job.id, started))
        timers = []
        if job.soft_timeout:
            timers.append(loop.call_later(job.soft_timeout, self._soft_limit, job))
        if job.timeout:
            timers.append(loop.call_later(job.timeout, self._hard_limit, job))
        try:
            result = await drive(lambda: job.target(*job.args, **job.kwargs), job.meant)
        except asyncio.CancelledError:
            if not job.dropped:
                # The loop is being closed: nobody is told, so the message stays with the broker.
                job.dropped = True
        except (WorkerShutdown, WorkerTerminate) as order:
            _obey(order)
            job.dropped = True
        except BaseException as error:  # noqa: BLE001 - it ends as a failure, as in the other pools
            self._lost(job, error)
        else:
            self._succeeded(job, result)
        finally:
            for timer in timers:
                timer.cancel()
            self._ended(job)

    async def _run_in_thread(self, job: _Job) -> None:
        started = time.monotonic()
        self._tell_soon(lambda: job.accept(job.id, started))
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="pointsman-task")
        call = self._loop.loop.run_in_executor(self._threads, lambda: job.target(*job.args, **job.kwargs))
        try:
            result = await asyncio.shield(call)
        except asyncio.CancelledError:
            job.dropped = True  # the thread runs on; what it says is not wanted
        except (WorkerShutdown, WorkerTerminate) as order:
            _obey(order)
            job.dropped = True
        except BaseException as error:  # noqa: BLE001 - as above
            self._lost(job, error)
        else:
            self._succeeded(job, result)
        finally:
            self._ended(job)

    def _succeeded(self, job: _Job, result: Any) -> None:
        # The tracer returns failures as values, too.
        if not job.dropped:
            self._tell_soon(lambda: job.callback(result))

    def _lost(self, job: _Job, error: BaseException) -> None:
        if job.dropped:
            return
        lost = WorkerLostError(repr(error))
        info = ExceptionInfo((type(lost), lost, error.__traceback__))
        self._tell_soon(lambda: job.failed(info))

    def _ended(self, job: _Job) -> None:
        self._running -= 1
        self._forget(job)
        self._start_waiting()

    def _forget(self, job: _Job) -> None:
        self._jobs.pop(job.id, None)
        self._told.set()

    def _soft_limit(self, job: _Job) -> None:
        if job.task is None or job.task.done() or job.dropped or job.soft_timeout is None:
            return
        seconds = job.soft_timeout
        job.instead = SoftTimeLimitExceeded(seconds)
        self._tell_soon(lambda: job.timed_out(True, seconds))
        job.task.cancel()

    def _hard_limit(self, job: _Job) -> None:
        if job.dropped or job.timeout is None:
            return
        seconds = job.timeout
        job.dropped = True
        self._tell_soon(lambda: job.timed_out(False, seconds))
        self._cancel(job)


def _obey(order: BaseException) -> None:
    """A task asked the worker to end: Celery looks at these flags in its own loop."""
    if isinstance(order, WorkerShutdown):
        worker_state.should_stop = order.code or 0  # type: ignore[assignment]
    elif isinstance(order, WorkerTerminate):
        worker_state.should_terminate = order.code or 1  # type: ignore[assignment]
