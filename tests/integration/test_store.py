"""The store: many callers, one round trip."""

import asyncio
import os
import signal

import pytest

from ops.embedded.valkey import ValkeyServer
from tasks.contract.errors import PointsmanError, Unreachable
from tasks.ledger.fleet import FLEET
from tasks.ledger.store import BULK, Store, connect
from tests.harness import DEADLINE


@pytest.fixture
def valkey(tmp_path):
    with ValkeyServer(tmp_path / "state") as server:
        yield server


def on_store(url, use, *scripts):
    async def main():
        redis = connect(url)
        try:
            return await use(Store(redis, scripts), redis)
        finally:
            await redis.aclose()

    return asyncio.run(main())


def test_concurrent_callers_get_their_own_replies(valkey):
    async def use(store, _):
        async def one(number):
            return await store.run(("SET", f"k{number}", number), ("GET", f"k{number}"))

        return await asyncio.gather(*(one(number) for number in range(500)))

    assert on_store(valkey.url, use) == [(True, str(number)) for number in range(500)]


def test_callers_at_the_same_time_share_one_connection(valkey):
    async def use(store, redis):
        await asyncio.gather(*(store.run(("INCR", "n")) for _ in range(200)))
        return await redis.get("n"), len(await redis.client_list())

    count, connections = on_store(valkey.url, use)
    assert count == "200"
    assert connections <= 2


def test_error_of_one_caller_is_not_its_neighbours(valkey):
    async def use(store, _):
        return await asyncio.gather(
            store.run(("SET", "text", "a")),
            store.run(("INCR", "text")),
            store.run(("GET", "text")),
            return_exceptions=True,
        )

    first, second, third = on_store(valkey.url, use)
    assert (first, third) == ((True,), ("a",))
    assert isinstance(second, PointsmanError)


def test_cancelled_caller_takes_no_other_with_it(valkey):
    async def use(store, _):
        tasks = [asyncio.ensure_future(store.run(("INCR", "n"))) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        again = await store.run(("GET", "n"))
        return [type(reply) for reply in done], again

    kinds, (count,) = on_store(valkey.url, use)
    assert kinds.count(tuple) == 9
    assert kinds[3] is asyncio.CancelledError
    assert count == "10"


def test_script_is_brought_to_a_server_that_forgot_it(valkey):
    async def use(store, redis):
        lead = FLEET.words((), "lead", role="sweeper", name="me", ms=1000)
        before = await asyncio.gather(*(store.run(lead, ("INCR", "n")) for _ in range(5)))
        await redis.script_flush()
        return before, await store.run(lead)

    before, after = on_store(valkey.url, use, FLEET)
    assert [reply[0] for reply in before] == [1] * 5
    assert sorted(reply[1] for reply in before) == [1, 2, 3, 4, 5]
    assert after == (1,)


@pytest.mark.parametrize(
    ("step", "arguments", "problem"),
    [
        ("leads", {"role": "r", "name": "n", "ms": 1}, "no step 'leads'"),
        ("lead", {"role": "r", "name": "n"}, "takes role, name, ms; it was given role, name"),
        ("lead", {"role": "r", "name": "n", "ms": 1, "rest": []}, "takes role, name, ms; it was given"),
        ("lead", {"role": "r", "name": "n", "time_ms": 1}, "takes role, name, ms; it was given"),
    ],
)
def test_script_refuses_unknown_steps_and_arguments(step, arguments, problem):
    with pytest.raises(TypeError, match=problem):
        FLEET.words((), step, **arguments)


@pytest.mark.parametrize("change", [lambda words: words[:-1], lambda words: (*words, "one more")])
def test_step_refuses_a_wrong_number_of_words(valkey, change):
    async def use(store, _):
        with pytest.raises(PointsmanError, match="step lead takes role, name, ms, not"):
            await store.run(change(FLEET.words((), "lead", role="r", name="n", ms=1)))

    on_store(valkey.url, use, FLEET)


def test_steps_are_loaded_together(valkey):
    async def use(store, redis):
        await store.run(FLEET.words((), "lead", role="r", name="n", ms=1))
        return await redis.script_exists(*(step.digest for step in FLEET.steps.values()))

    # A group that finds one step missing and the next one there would run them out of order.
    assert all(on_store(valkey.url, use, FLEET))


def test_large_commands_travel_apart(valkey):
    async def use(store, _):
        many = [("RPUSH", "list", *map(str, range(BULK + 1)))]
        large, small = await asyncio.gather(store.run(*many), store.run(("SET", "k", "v")))
        return large, small

    assert on_store(valkey.url, use) == ((BULK + 1,), (True,))


def test_restarted_server_is_found_and_a_missing_one_is_an_error(valkey):
    async def use(store, _):
        await store.run(("SET", "k", "v"))
        os.kill(valkey.pid, signal.SIGKILL)
        valkey.wait(DEADLINE)
        gone = await asyncio.gather(*(store.run(("GET", "k")) for _ in range(20)), return_exceptions=True)
        valkey.start()
        return gone, await store.run(("PING",))

    gone, back = on_store(valkey.url, use)
    assert {type(error) for error in gone} == {Unreachable}
    assert back in (("PONG",), (True,))


def test_caller_that_was_cancelled_may_still_learn_what_its_commands_did(valkey):
    async def use(store, _):
        message = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(store.run(("INCR", "n"), ("GET", "n"), late=message.set_result))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await asyncio.wait_for(message, 10)

    assert on_store(valkey.url, use) == [1, "1"]
