"""The bridge between a function that calls, as Celery's tracer does, and a loop that awaits."""

import asyncio
import contextvars

import greenlet
import pytest

from worker.loop import drive, in_task, wait_here

who = contextvars.ContextVar("who", default=0)


async def answer(value):
    await asyncio.sleep(0)
    return value


async def fail():
    await asyncio.sleep(0)
    raise ValueError("why")


def test_wait_here_returns_the_coroutine_s_value_and_drive_the_function_s():
    assert asyncio.run(drive(lambda: wait_here(answer(1)) + wait_here(answer(2)))) == 3


def test_wait_here_raises_the_coroutine_s_error():
    def function():
        with pytest.raises(ValueError, match="why"):
            wait_here(fail())
        return "caught"

    assert asyncio.run(drive(function)) == "caught"


def test_drive_raises_the_function_s_error():
    with pytest.raises(ValueError, match="why"):
        asyncio.run(drive(lambda: wait_here(fail())))


def test_wait_here_runs_every_step_in_the_greenlet_of_its_task():
    seen = []

    async def look():
        for _ in range(3):
            seen.append(greenlet.getcurrent())
            await asyncio.sleep(0)

    def function():
        mine = greenlet.getcurrent()
        wait_here(look())
        return mine

    mine = asyncio.run(drive(function))
    assert seen == [mine] * 3


def test_drive_keeps_the_context_variables_of_300_interleaved_tasks():
    async def keep(number):
        who.set(number)
        for turn in range(10):
            await asyncio.sleep(0.0001 * (turn % 3))
            assert who.get() == number

    def function(number):
        wait_here(keep(number))
        return who.get()

    async def main():
        return await asyncio.gather(
            *(asyncio.ensure_future(drive(lambda number=number: function(number))) for number in range(300))
        )

    assert asyncio.run(main()) == list(range(300))


def test_cancellation_reaches_the_coroutine_and_then_the_function():
    order = []

    async def long():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            order.append("coroutine")
            raise

    def function():
        try:
            wait_here(long())
        finally:
            order.append("function")

    async def main():
        task = asyncio.ensure_future(drive(function))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert order == ["coroutine", "function"]


def test_drive_translates_a_cancellation_into_another_error():
    class TooLate(Exception):
        pass

    def function():
        try:
            wait_here(asyncio.sleep(60))
        except TooLate:
            return wait_here(answer("went on"))

    async def main():
        task = asyncio.ensure_future(drive(function, lambda _: TooLate()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "went on"


def test_wait_here_supports_timeouts_of_asyncio():
    async def bounded():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "timed out"

    assert asyncio.run(drive(lambda: wait_here(bounded()))) == "timed out"


def test_in_task_is_true_only_inside_a_task():
    assert not in_task()
    assert asyncio.run(drive(in_task))
