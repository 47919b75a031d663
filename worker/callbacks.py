"""The callbacks by which the pool reports to Celery: run in order, in batches, on Celery's own thread.

A callback acknowledges messages and sends events, and so blocks on the network. It must not run on the loop's thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
from celery.exceptions import WorkerShutdown, WorkerTerminate

from tasks.queue.poller import Waker
from worker.loop import EventLoop

__all__ = ["Callbacks"]

log = structlog.get_logger(__name__)

#: Seconds that a callback waits for more, so that they run together.
GATHER = 0.002
#: Seconds after which Celery's thread counts as busy and another one runs them: it sleeps through a soft shutdown.
STALE = 0.25


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
