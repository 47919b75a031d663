"""From a function that calls to a loop that awaits: the border that Celery's tracer crosses."""

import asyncio
import contextvars

import greenlet
import pytest

from worker.bridge import drive, in_task, wait_here

who = contextvars.ContextVar("who", default=0)


async def answer(value):
    await asyncio.sleep(0)
    return value


async def fail():
    await asyncio.sleep(0)
    raise ValueError("why")


def test_a_function_gets_the_value_of_what_it_waits_for_and_the_task_that_of_the_function():
    assert asyncio.run(drive(lambda: wait_here(answer(1)) + wait_here(answer(2)))) == 3


def test_an_error_of_the_coroutine_comes_out_where_the_function_waits():
    def function():
        with pytest.raises(ValueError, match="why"):
            wait_here(fail())
        return "caught"

    assert asyncio.run(drive(function)) == "caught"


def test_an_error_of_the_function_comes_out_of_the_task():
    with pytest.raises(ValueError, match="why"):
        asyncio.run(drive(lambda: wait_here(fail())))


def test_every_step_of_the_coroutine_runs_in_the_greenlet_of_its_task():
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


def test_300_interleaved_tasks_keep_their_context_variables():
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


def test_a_cancellation_reaches_the_coroutine_and_then_the_task():
    told = []

    async def long():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("coroutine")
            raise

    def function():
        try:
            wait_here(long())
        finally:
            told.append("function")

    async def main():
        task = asyncio.ensure_future(drive(function))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert told == ["coroutine", "function"]


def test_an_interruption_may_mean_another_error_than_a_cancellation():
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


def test_timeouts_of_asyncio_work_inside():
    async def bounded():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "timed out"

    assert asyncio.run(drive(lambda: wait_here(bounded()))) == "timed out"


def test_only_code_in_a_task_is_told_to_await():
    assert not in_task()
    assert asyncio.run(drive(in_task))
