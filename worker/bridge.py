"""From Celery's tracer, which calls, to the event loop, which awaits.

Celery's tracer is a plain function that runs the task between signals, acknowledgement and result. Here it runs
unmodified, in a greenlet on the loop's thread. Where the task awaits, the greenlet steps its coroutine itself and hands
only bare futures to the loop. So every step of the coroutine runs in the task's own greenlet: Celery keys its stack of
running tasks by greenlet, and `self.request`, `current_task` and the context variables are this task's after every
await. (SQLAlchemy's asyncio extension crosses the same border in the same way.)
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import greenlet

__all__ = ["drive", "in_task", "wait_here"]

T = TypeVar("T")


class _TaskGreenlet(greenlet.greenlet):
    """Runs one task's tracer."""

    def __init__(self, function: Callable[[], Any]) -> None:
        driver = greenlet.getcurrent()
        super().__init__(function, driver)
        # The driver runs in its asyncio task's context: the tracer sees and sets the same variables.
        self.gr_context = driver.gr_context


def in_task() -> bool:
    """Whether the caller runs in a task on the loop, where it must await instead of block."""
    return isinstance(greenlet.getcurrent(), _TaskGreenlet)


def wait_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from within a task's greenlet, while the loop goes on with other things.

    Raises whatever the coroutine raises, also `asyncio.CancelledError` where the task is cancelled meanwhile.
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
        except BaseException as thrown:  # noqa: BLE001 - the coroutine gets it, whatever it is
            error = thrown


def _same(error: BaseException) -> BaseException:
    return error


async def drive(function: Callable[[], T], meant: Callable[[BaseException], BaseException] = _same) -> T:
    """Run a function in a greenlet of its own; await this in an asyncio task.

    What is thrown into this coroutine comes out of the `wait_here` in which the function is. asyncio knows one way to
    interrupt a task, cancelling it: `meant` says which error that shall be to the function.
    """
    return await _steps(function, meant)


@types.coroutine
def _steps(function: Callable[[], T], meant: Callable[[BaseException], BaseException]) -> Generator[Any, Any, T]:
    runner = _TaskGreenlet(function)
    yielded = runner.switch()
    while not runner.dead:
        try:
            yield yielded
        except BaseException as error:  # noqa: BLE001 - the function gets it, whatever it is
            yielded = runner.throw(meant(error))
        else:
            yielded = runner.switch()
    return yielded  # type: ignore[no-any-return]
