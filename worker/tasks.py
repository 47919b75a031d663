"""Celery's task, application and events for this worker.

A task may be ``async def``, and publishing never blocks the loop. Flower and the exporters see Celery's events, in a
tenth of the messages: Celery sends the events that it has buffered once a round of its event loop, which is a message
for every few tasks. Here they are buffered for a tenth of a second; a person who watches a worker sees no difference.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from celery.worker import state
from kombu.asynchronous import get_event_loop

from tasks.queue.ports import Ports
from worker.loop import drive, event_loop, in_task, wait_here

#: Seconds that events are buffered, and how many at most make one message.
BUFFER_FOR = 0.1
MOST_BUFFERED = 500


class CoroutineTask(Task):  # type: ignore[type-arg]
    """A Celery task whose body may be a coroutine function, on every pool."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Called by Celery's tracer, which has pushed the request; `super().__call__` would push a second one.
        run = super().__call__ if self.request.called_directly else self.run
        result = run(*args, **kwargs)
        if not inspect.iscoroutine(result):
            return result
        if in_task():
            return wait_here(result)
        # On a thread of another pool: the loop runs the coroutine, as this task.
        request = self.request  # that of this thread
        return event_loop().run(drive(lambda: _run_as(self, request, lambda: wait_here(result))))


class Application(Celery):
    """A Celery application whose tasks on the loop publish from a thread, since kombu blocks on the network."""

    task_cls = "worker.tasks:CoroutineTask"
    events_cls = "worker.tasks:BatchedEvents"

    #: Returns what the steps need of this process.
    ports: Callable[[], Ports]

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        send = super().send_task
        if not in_task():
            return send(*args, **kwargs)
        task = _task_stack.top
        if task is None:
            return wait_here(asyncio.to_thread(send, *args, **kwargs))
        return wait_here(asyncio.to_thread(_run_as, task, task.request, lambda: send(*args, **kwargs)))


class BatchingDispatcher(EventDispatcher):
    """Celery's dispatcher, which calls `on_send_buffered` for every event that it buffers."""

    on_send_buffered: Callable[[], None] | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._flush_scheduled = False
        if self.on_send_buffered is not None:
            self.buffer_limit = MOST_BUFFERED
            self.on_send_buffered = self._flush_soon

    def _flush_soon(self) -> None:
        hub = get_event_loop()
        if hub is None or state.should_stop is not None or state.should_terminate is not None:
            # The worker is ending: its loop may make no further round.
            self.flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            hub.call_later(BUFFER_FOR, self._flush)
            hub.on_close.add(self._flush)  # type: ignore[union-attr]

    def _flush(self, _closed: Any = None) -> None:
        self._flush_scheduled = False
        self.flush()


class BatchedEvents(Events):
    dispatcher_cls = "worker.tasks:BatchingDispatcher"


def _run_as(task: Any, request: Any, function: Callable[[], Any]) -> Any:
    """Run a function as this task: Celery reads a new message's parent and root from the thread's running task."""
    _task_stack.push(task)
    task.request_stack.push(request)
    try:
        return function()
    finally:
        task.request_stack.pop()
        _task_stack.pop()
