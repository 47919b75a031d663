"""A Celery pool that awaits: thousands of calls in flight in one process, on one event loop.

``celery -A worker worker -c 1000`` uses it: it is this application's default (``worker_pool`` in its configuration). A
task that is written as ``async def`` runs on the loop (see `worker.loop.drive`); a plain one runs in a thread, where it
may block. Celery's tracer, signals, retries, acknowledgements and chords are Celery's own.

The pool can do more than Celery's pool of threads: soft and hard time limits, ``revoke(terminate=True)`` during a call,
growing and shrinking while it runs, and a shutdown that lets calls finish within the shutdown timeout and returns the
rest to the broker. No thread can be ended from outside: a plain task has no time limits, and a revoke only drops its
outcome.

Two threads share the work. The loop's thread runs the tasks. Celery's own thread receives messages and runs the
callbacks of ended tasks, in order and in batches: a callback acknowledges messages and sends events, and so blocks on
the network. It must not run on the loop's thread.
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
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.concurrency.base import BasePool
from celery.exceptions import ImproperlyConfigured, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from celery.utils import threads as celery_threads
from celery.worker import state as worker_state

from tasks.queue.transport import Waker
from worker.loop import EventLoop, drive, event_loop

log = structlog.get_logger(__name__)

#: Threads for plain tasks, at most; each is made when it is needed.
MOST_THREADS = 32
#: Seconds between two cancellations of a task that did not end at the first.
CANCEL_AGAIN_AFTER = 0.1
#: Seconds that cancelled tasks have to release their resources.
TERMINATE_WITHIN = 5.0
#: Seconds that a callback waits for more, so that they run together.
GATHER = 0.002
#: Seconds after which Celery's thread counts as busy and another one runs them: it sleeps through a soft shutdown.
STALE = 0.25


@dataclass(eq=False, slots=True)
class _PoolTask:
    """One task that was given to the pool. `id` stands where other pools have the id of a process."""

    id: int
    target: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    on_success: Callable[..., Any]
    on_accept: Callable[[int, float], Any]
    on_error: Callable[..., Any]
    on_timeout: Callable[[bool, float], Any]
    soft_timeout: float | None
    timeout: float | None
    is_coroutine: bool
    #: Set while it runs.
    running: asyncio.Task[Any] | None = None
    #: What is thrown into the task in place of the cancellation that interrupts it.
    interruption: BaseException | None = None
    #: Its outcome is not reported: it was terminated, or its hard limit passed.
    dropped: bool = False

    def translate(self, error: BaseException) -> BaseException:
        """The error that the task gets for one that interrupts it: asyncio can interrupt by cancelling alone."""
        if not isinstance(error, asyncio.CancelledError) or self.interruption is None or self.dropped:
            return error
        error, self.interruption = self.interruption, None
        if self.running is not None:
            # Else an `asyncio.timeout` inside the task would take the task for cancelled.
            self.running.uncancel()
        return error


class Callbacks:
    def __init__(self) -> None:
        self._pending: deque[Callable[[], Any]] = deque()
        self._running = threading.RLock()
        self._changed = threading.Event()
        self._run_scheduled = False
        self._runs = 0
        self._waker: Waker | None = None

    def start(self, loop: EventLoop) -> None:
        """Take callbacks of tasks that run on this loop."""
        self._loop = loop.loop

    def register_with(self, hub: Any) -> None:
        """Have Celery's event loop run them."""
        # Not `hub.call_soon`: the hub runs such a call before it waits for events, and whatever that call schedules in
        # turn (acknowledgements, room for the next message) only after the wait.
        self._waker = self._waker or Waker()
        hub.add_reader(self._waker.sock, self._run_on_hub)

    def add(self, callback: Callable[[], Any]) -> None:
        """Run a callback soon; to be called on the loop's thread."""
        self._pending.append(callback)
        if not self._run_scheduled:
            self._run_scheduled = True
            self._loop.call_later(GATHER, self._request_run)

    def run(self) -> None:
        """Run all pending callbacks; on Celery's thread, unless that one is busy."""
        with self._running:
            self._run_scheduled = False
            self._runs += 1
            while self._pending:
                callback = self._pending.popleft()
                try:
                    callback()
                except (WorkerShutdown, WorkerTerminate):
                    raise
                except Exception:
                    log.exception("pool.callback_failed")

    def notify(self) -> None:
        """End a `wait`."""
        self._changed.set()

    def wait(self, seconds: float) -> None:
        """Block until a callback is due, or `notify` is called, for so many seconds at most."""
        self._changed.wait(seconds)
        self._changed.clear()

    def _run_on_hub(self) -> None:
        if self._waker is not None:
            self._waker.clear()
        self.run()

    def _request_run(self) -> None:
        self._changed.set()
        if self._waker is None:
            _ = self._loop.run_in_executor(None, self.run)
            return
        self._waker.notify()
        self._loop.call_later(STALE, self._run_if_stale, self._runs)

    def _run_if_stale(self, runs_before: int) -> None:
        """Use another thread if Celery's has not run them since."""
        if self._runs == runs_before:
            _ = self._loop.run_in_executor(None, self.run)


class ApplyResult:
    """The handle that Celery keeps of a task that was given to the pool."""

    def terminate(self, signal: int) -> None:
        """Do nothing: Celery has called `TaskPool.terminate_job`, or will once the task is accepted."""


class TaskPool(BasePool):
    """`limit` is the number of tasks that run at once; it may change while they run."""

    body_can_be_buffer = True
    # Stopping waits for tasks, which a signal handler must not do.
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = self.limit or 1
        self._ids = itertools.count(1)
        #: All tasks that were given to the pool and have not ended.
        self._tasks: dict[int, _PoolTask] = {}
        #: Those that have not started: Celery's thread adds to them, the loop's takes from them.
        self._waiting: deque[_PoolTask] = deque()
        self._callbacks = Callbacks()
        self._start_scheduled = False
        # Used on the loop's thread alone.
        self._running = 0
        self._threads: ThreadPoolExecutor | None = None

    # -- called on Celery's thread -------------------------------------------------------------------

    def on_start(self) -> None:
        if celery_threads.USE_FAST_LOCALS:  # type: ignore[attr-defined]
            raise ImproperlyConfigured(
                "USE_FAST_LOCALS is set: Celery would mix up the requests of tasks that await; unset it"
            )
        self._loop = event_loop()
        self._callbacks.start(self._loop)

    def register_with_event_loop(self, loop: Any) -> None:
        self._callbacks.register_with(loop)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[..., Any] = lambda *_: None,
        *,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        task = _PoolTask(
            id=next(self._ids),
            target=target,
            args=args,
            kwargs=kwargs or {},
            on_success=callback,
            on_accept=more.get("accept_callback", _ignore),
            on_error=more.get("error_callback", _ignore),
            on_timeout=more.get("timeout_callback", _ignore),
            soft_timeout=soft_timeout or self.options.get("soft_timeout"),
            timeout=timeout or self.options.get("timeout"),
            is_coroutine=self._is_coroutine(args),
        )
        self._tasks[task.id] = task
        self._waiting.append(task)
        if not self._start_scheduled:
            # One call starts all tasks that are received together.
            self._start_scheduled = True
            self._loop.call(self._start_waiting)
        return ApplyResult()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:  # noqa: ARG002 - Celery's signature
        """Cancel a task during its call. Its end is not reported: the caller reports that it was revoked."""
        task = self._tasks.get(pid)
        if task is not None:
            task.dropped = True
            self._loop.call(self._cancel, task)

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self._loop.call(self._start_waiting)

    def shrink(self, n: int = 1) -> None:
        """Lower the limit. Running tasks above it run to their end; no task starts before there is room."""
        self.limit = max(1, self.limit - n)

    def on_stop(self) -> None:
        """Wait for all tasks: a warm shutdown has no limit of its own."""
        while self._tasks:
            self._callbacks.wait(0.1)
            self._callbacks.run()
        self._callbacks.run()
        self._end_threads()

    def on_terminate(self) -> None:
        """Cancel all tasks. Their messages stay unacknowledged, so the broker hands them to another worker."""
        end = time.monotonic() + TERMINATE_WITHIN
        for task in tuple(self._tasks.values()):
            self.terminate_job(task.id)
        while any(task.is_coroutine for task in self._tasks.values()) and time.monotonic() < end:
            self._callbacks.wait(CANCEL_AGAIN_AFTER)
        self._callbacks.run()
        self._end_threads()

    def _end_threads(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()  # type: ignore[misc]
        return info | {
            "loop": type(self._loop.loop).__module__.partition(".")[0],  # uvloop or asyncio
            "running": self._running,
            "waiting": len(self._waiting),
        }

    def _is_coroutine(self, args: Sequence[Any]) -> bool:
        """Whether the task that Celery's tracer is to run (its first argument is the name) is an ``async def``."""
        task = self.app.tasks.get(args[0]) if args and isinstance(args[0], str) else None
        return task is not None and iscoroutinefunction(task.run)

    # -- called on the loop's thread -----------------------------------------------------------------

    def _start_waiting(self) -> None:
        self._start_scheduled = False
        while self._waiting and self._running < self.limit:
            task = self._waiting.popleft()
            if task.dropped:
                self._forget(task)
                continue
            self._running += 1
            task.running = self._loop.loop.create_task(self._run(task))

    def _cancel(self, task: _PoolTask) -> None:
        """Cancel until the task has ended: it may catch a cancellation, and a wait that just ended loses one."""
        if task.running is None:
            self._forget(task)  # it waits, and will not be started
            return
        if task.running.done():
            return
        task.running.cancel()
        if task.is_coroutine:
            self._loop.loop.call_later(CANCEL_AGAIN_AFTER, self._cancel, task)

    async def _run(self, task: _PoolTask) -> None:
        started = time.monotonic()
        self._callbacks.add(lambda: task.on_accept(task.id, started))
        timers = self._start_timers(task) if task.is_coroutine else []
        try:
            run = partial(task.target, *task.args, **task.kwargs)
            result = await (drive(run, task.translate) if task.is_coroutine else self._run_in_thread(run))
        except asyncio.CancelledError:
            # The task was terminated, or the loop is being closed: without a report the message stays with the broker.
            # A thread runs on; its result is dropped.
            task.dropped = True
        except WorkerShutdown as order:
            # A task asks the worker to end: Celery looks at this flag, and at that below, in its own loop.
            worker_state.should_stop = order.code or 0  # type: ignore[assignment]
            task.dropped = True
        except WorkerTerminate as order:
            worker_state.should_terminate = order.code or 1  # type: ignore[assignment]
            task.dropped = True
        except BaseException as error:  # noqa: BLE001 - it ends as a failure, as in Celery's own pools
            if not task.dropped:
                lost = WorkerLostError(repr(error))
                self._callbacks.add(partial(task.on_error, ExceptionInfo((type(lost), lost, error.__traceback__))))
        else:
            # A failure of the task is a value, too: the tracer returns it.
            if not task.dropped:
                self._callbacks.add(lambda: task.on_success(result))
        finally:
            for timer in timers:
                timer.cancel()
            self._running -= 1
            self._forget(task)
            self._start_waiting()

    async def _run_in_thread(self, run: Callable[[], Any]) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="pointsman-task")
        return await asyncio.shield(self._loop.loop.run_in_executor(self._threads, run))

    def _forget(self, task: _PoolTask) -> None:
        self._tasks.pop(task.id, None)
        self._callbacks.notify()

    # -- time limits ---------------------------------------------------------------------------------

    def _start_timers(self, task: _PoolTask) -> list[asyncio.TimerHandle]:
        limits = ((task.soft_timeout, self._end_soft_limit), (task.timeout, self._end_hard_limit))
        return [self._loop.loop.call_later(seconds, end, task, seconds) for seconds, end in limits if seconds]

    def _end_soft_limit(self, task: _PoolTask, seconds: float) -> None:
        if task.running is None or task.running.done() or task.dropped:
            return
        task.interruption = SoftTimeLimitExceeded(seconds)
        self._callbacks.add(lambda: task.on_timeout(True, seconds))
        task.running.cancel()

    def _end_hard_limit(self, task: _PoolTask, seconds: float) -> None:
        if task.dropped:
            return
        task.dropped = True
        self._callbacks.add(lambda: task.on_timeout(False, seconds))
        self._cancel(task)


def _ignore(*_: Any) -> None:
    """Stands for a callback that Celery did not give."""
