"""Runs Celery's tracer, a plain function that calls the task, on the event loop, where the task must await.

The tracer runs unmodified, in a greenlet on the loop's thread: signals, task, acknowledgement, result. Where the task
awaits, the greenlet steps the task's coroutine itself and passes only bare futures to the loop. So every step of the
coroutine runs in the task's own greenlet. Celery keys its stack of running tasks by greenlet; so `self.request`,
`current_task` and the context variables are this task's after every await. (SQLAlchemy's asyncio extension solves the
same problem in the same way.)
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import greenlet

__all__ = ["drive", "in_task", "wait_here"]

T = TypeVar("T")


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
