"""The fleet's side on a real Valkey: who waits, who is admitted, and what a lease is worth."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.contract.job import CallId
from tasks.ledger import Admitted
from tasks.routing.snapshot import Preference
from tests import redis_keys
from tests.harness import ledger_runs, part_call, ranked

FAST, SLOW = "fast", "slow"
MODELS = (FAST, SLOW)
#: Any of the two, the less loaded first.
EITHER = (Preference(FAST, 0.0, 1.0), Preference(SLOW, 0.0, 1.0))


@pytest.fixture
def run(server, store):
    """Run a coroutine function with the fleet's side of a ledger; the fleet is empty at first."""

    async def view(ledger):
        return ledger.fleet

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs


def call_of(number):
    return CallId(f"job{number:06}", 0)


async def admit(fleet, call, *wanted, priority="normal", bound=False):
    wanted = wanted or (Preference(FAST, 0.0),)
    return await fleet.admit(call, ranked(wanted, bound=bound), priority=priority)


async def fill(fleet, model, calls):
    """Take all places of a model whose capacity is half of `calls`."""
    held = [CallId(f"held{model}{number}", 0) for number in range(calls)]
    for call in held:
        assert await admit(fleet, call, Preference(model, 0.0)) == [Admitted(call, model)]
    return held


# -- order ---------------------------------------------------------------------------------------


def test_admission_is_by_priority_then_time_over_all_waiting_lists(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        held = await fill(fleet, FAST, 2)
        await fill(fleet, SLOW, 2)
        choices = [(Preference(FAST, 0.0),), EITHER]
        waiting = []
        for number, priority in enumerate(["low", "normal", "high", "low", "normal", "high"]):
            call = call_of(number)
            assert await admit(fleet, call, *choices[number % 2], priority=priority) == []
            waiting.append((priority, number, call))
            begun = await fleet.now()
            while await fleet.now() < begun + 0.002:
                pass  # the order within one millisecond is undefined
        order = []
        freed = held[0]
        for _ in waiting:
            (admitted,) = await fleet.release(freed, FAST)
            order.append(admitted.call)
            freed = admitted.call
        rank = {"high": 0, "normal": 1, "low": 2}
        assert order == [call for _, _, call in sorted(waiting, key=lambda wait: (rank[wait[0]], wait[1]))]

    run(steps)


def test_call_without_room_does_not_hold_up_other_waiting_lists(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        await fill(fleet, FAST, 2)
        assert await admit(fleet, call_of(1), priority="high") == []
        assert await admit(fleet, call_of(2), Preference(SLOW, 0.0), priority="low") == [Admitted(call_of(2), SLOW)]

    run(steps)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    capacities=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    steps=st.lists(st.tuples(st.sampled_from(["admit", "release", "delay", "tick", "withdraw"]), st.integers(0, 30))),
)
def test_queue_holds_at_most_twice_the_capacity_and_each_call_once(run, store, capacities, steps):
    async def play(fleet):
        store.flushdb()
        await fleet.configure(dict(zip(MODELS, capacities, strict=True)))
        where: dict[CallId, str] = {}
        wished = [EITHER, EITHER[:1], EITHER[1:]]
        for word, number in steps:
            call = call_of(number)
            if word == "admit":
                admitted = await admit(fleet, call, *wished[number % 3])
                if call in where:
                    assert [place.model for place in admitted if place.call == call] == [where[call]]
            elif word == "release" and call in where:
                admitted = await fleet.release(call, where.pop(call))
            elif word == "delay" and call in where:
                admitted = await fleet.delay(call, where.pop(call), ranked(EITHER), priority="normal", seconds=0)
            elif word == "tick":
                admitted = await fleet.tick()
            else:
                await fleet.withdraw([call])
                where.pop(call, None)
                admitted = []
            where.update(admitted)
            for model, capacity in zip(MODELS, capacities, strict=True):
                held = store.zrange(redis_keys.claims(model), 0, -1)
                assert len(held) <= 2 * capacity
                assert {str(call) for call, its in where.items() if its == model} == set(held)
            stands: Counter[str] = Counter()
            for key in (
                *store.keys(redis_keys.claims("*")),
                *store.keys(redis_keys.waiting_list("*")),
                redis_keys.DELAYED_CALLS,
            ):
                stands.update(store.zrange(key, 0, -1))
            assert set(stands.values()) <= {1}

    run(play)


# -- choice --------------------------------------------------------------------------------------


def test_bound_call_waits_for_its_model_an_unbound_one_takes_any(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        held = await fill(fleet, FAST, 2)
        assert await admit(fleet, call_of(1), *EITHER, bound=True) == []
        assert await admit(fleet, call_of(2), *EITHER) == [Admitted(call_of(2), SLOW)]
        assert await fleet.release(held[0], FAST) == [Admitted(call_of(1), FAST)]

    run(steps)


def test_calls_admitted_at_once_do_not_all_take_the_idle_model(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        replies = await asyncio.gather(*(admit(fleet, call_of(number), *EITHER) for number in range(2)))
        assert sorted(place.model for reply in replies for place in reply) == [FAST, SLOW]

    run(steps)


def test_preferences_are_weighed_with_the_load_at_admission(run):
    async def steps(fleet):
        await fleet.configure({FAST: 2, SLOW: 2})
        preferences = (Preference(FAST, 0.0, 1.0), Preference(SLOW, 0.8, 1.0))
        models = [(await admit(fleet, call_of(number), *preferences))[0].model for number in range(4)]
        # 0 and 0.5 are less than 0.8; at 1.0 the other is the better one; then 1.0 against 1.3.
        assert models == [FAST, FAST, SLOW, FAST]

    run(steps)


def test_parts_of_fan_outs_count_as_load(run):
    async def steps(fleet):
        await fleet.configure({FAST: 2, SLOW: 2})
        await fleet.lease({FAST: [part_call("j", index) for index in range(3)]})
        assert await admit(fleet, call_of(1), *EITHER) == [Admitted(call_of(1), SLOW)]
        snapshot = await fleet.snapshot()
        assert (snapshot.models[FAST].parts, snapshot.models[FAST].load) == (3, 1.5)

    run(steps)


# -- capacity ------------------------------------------------------------------------------------


def test_scale_changes_how_many_calls_are_admitted(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        held = await fill(fleet, FAST, 2)
        for number in range(6):
            assert await admit(fleet, call_of(number)) == []
        await fleet.scale(FAST, 3)
        assert len(await fleet.tick()) == 4
        await fleet.scale(FAST, 0)
        for call in held:
            assert await fleet.release(call, FAST) == []
        assert await admit(fleet, call_of(10), *EITHER) == [Admitted(call_of(10), SLOW)]
        await fleet.scale(FAST, None)
        for number in range(4):
            admitted = await fleet.release(call_of(number), FAST)
        assert len(admitted) == 1
        assert (await fleet.snapshot()).models[FAST].capacity == 1

    run(steps)


def test_configure_removes_models_that_left_the_configuration(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        await fleet.configure({SLOW: 1})
        assert await admit(fleet, call_of(1)) == []
        assert await admit(fleet, call_of(2), *EITHER) == [Admitted(call_of(2), SLOW)]

    run(steps)


def test_snapshot_counts_turns_and_waiting_calls(run):
    async def steps(fleet):
        await fleet.configure({FAST: 0, SLOW: 0})
        await admit(fleet, call_of(1))
        await admit(fleet, call_of(2), *EITHER)
        assert (await fleet.snapshot()).turn == 0
        assert [(await fleet.snapshot(turn="r")).turn for _ in range(3)] == [1, 2, 3]
        snapshot = await fleet.snapshot([SLOW, FAST])
        assert (snapshot.models[FAST].waiting, snapshot.models[SLOW].waiting) == (2, 1)

    run(steps)


# -- one place a call ------------------------------------------------------------------------------


def test_admit_of_an_admitted_call_returns_its_one_slot(run, store):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        one = call_of(1)
        assert await admit(fleet, one) == [Admitted(one, FAST)]
        # In flight: it is returned again, whatever the second ranking is.
        assert await admit(fleet, one, Preference(SLOW, 0.0)) == [Admitted(one, FAST)]
        await fill(fleet, SLOW, 2)
        await fill_up(fleet)
        two = call_of(2)
        assert await admit(fleet, two) == []
        # Waiting: in no second list either.
        assert await admit(fleet, two, *EITHER) == []
        assert await fleet.find([one, two, call_of(3)]) == ["single", "waiting", "nowhere"]
        # Delayed: not before its time.
        await fleet.delay(one, FAST, ranked([Preference(FAST, 0.0)]), priority="normal", seconds=60)
        assert await admit(fleet, one) == []
        assert await fleet.find([one]) == ["delayed"]

    run(steps)
    assert store.keys(redis_keys.waiting_list("*")) == []


async def fill_up(fleet):
    assert await admit(fleet, CallId("filler", 0)) == [Admitted(CallId("filler", 0), FAST)]


def test_delayed_call_releases_its_slot_and_comes_back_when_due(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        held = await fill(fleet, FAST, 2)
        assert await admit(fleet, call_of(1)) == []
        assert await fleet.delay(held[0], FAST, ranked(EITHER), priority="normal", seconds=60) == [
            Admitted(call_of(1), FAST)
        ]
        assert await fleet.tick() == []
        # What is due now comes back at once: to the end of the backlog, where no other call waits.
        assert await fleet.delay(held[1], FAST, ranked([Preference(FAST, 0.0)]), priority="normal", seconds=0) == [
            Admitted(held[1], FAST)
        ]

    run(steps)


def test_withdraw_removes_calls_wherever_they_are(run, store):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        in_flight, delayed = await fill(fleet, FAST, 2)
        parts = [part_call("many", index) for index in range(2500)]
        await fleet.lease({SLOW: parts})
        await admit(fleet, call_of(1), *EITHER[:1])
        await fleet.delay(delayed, FAST, ranked([Preference(FAST, 0.0)]), priority="normal", seconds=0)
        await fleet.withdraw([in_flight, delayed, call_of(1), *parts])
        assert await fleet.tick() == []
        assert set(await fleet.find([in_flight, delayed, call_of(1), *parts])) == {"nowhere"}
        await fleet.withdraw([])

    run(steps)
    left = set(store.keys(redis_keys.fleet("*")))
    assert left <= {redis_keys.CONFIGURED, redis_keys.WAITING_LISTS}


# -- leases --------------------------------------------------------------------------------------


def test_lease_lapses_unless_renewed_and_a_part_has_only_one(run):
    async def steps(fleet):
        await fleet.configure({FAST: 5, SLOW: 5})
        single, part = CallId("s", 0), part_call("p", 1)
        await admit(fleet, single)
        await admit(fleet, part)  # it was tried again, and came through the backlog
        assert await fleet.lapsed() == []
        assert 9 < await fleet.lease_left(single, FAST) <= 10
        await fleet.lease({FAST: [single, part]}, seconds=-1)
        assert set(await fleet.lapsed()) == {Admitted(part, FAST), Admitted(single, FAST)}
        assert await fleet.lease_left(part, FAST) < 0
        await fleet.lease({FAST: [single, part]})
        assert await fleet.lapsed() == []
        assert (await fleet.snapshot()).models[FAST].singles == 1
        await fleet.release(single, FAST)
        await fleet.release(part, FAST)
        assert await fleet.lease_left(single, FAST) <= 0
        assert (await fleet.snapshot()).models[FAST].load == 0

    run(steps)


def test_lease_of_more_calls_than_lua_can_unpack(run):
    async def steps(fleet):
        calls = [call_of(number) for number in range(20_000)]
        await fleet.lease({FAST: calls})
        assert (await fleet.snapshot()).models[FAST].singles == 20_000

    run(steps)


def test_forget_ends_a_lease_and_admits_no_call(run):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        held = await fill(fleet, FAST, 2)
        await admit(fleet, call_of(1))
        await fleet.forget([Admitted(held[0], FAST)])
        assert await fleet.find([held[0], call_of(1)]) == ["nowhere", "waiting"]
        assert await fleet.tick() == [Admitted(call_of(1), FAST)]

    run(steps)


def test_lead_gives_the_role_to_one_of_fifty_until_its_term_ends(run, store):
    async def steps(fleet):
        names = [f"worker {number}" for number in range(50)]
        leads = await asyncio.gather(*(fleet.lead("sweeper", name, seconds=60) for name in names))
        assert sum(leads) == 1
        leader = names[leads.index(True)]
        assert await fleet.lead("sweeper", leader, seconds=60)
        assert not await fleet.lead("sweeper", "another", seconds=60)
        assert await fleet.lead("other role", "another", seconds=60)
        store.delete(redis_keys.SWEEPER_LEADER)
        assert await fleet.lead("sweeper", "another", seconds=60)
        assert not await fleet.lead("sweeper", leader, seconds=60)

    run(steps)
    assert 0 < store.pttl(redis_keys.SWEEPER_LEADER) <= 60_000


def test_cancelled_jobs_are_listed_for_a_while(run, monkeypatch):
    async def steps(fleet):
        now = await fleet.now()

        async def long_ago():
            return now - 3600

        with monkeypatch.context() as patch:
            patch.setattr(fleet, "now", long_ago)
            await fleet.cancel("long ago")
        await fleet.cancel("now")
        assert await fleet.cancelled() == {"now"}

    run(steps)


def test_due_returns_jobs_by_how_long_they_are_due(run):
    async def steps(fleet):
        await fleet.watch({"later": 60.0, "due": -1.0, "overdue": -2.0})
        assert await fleet.due() == ["overdue", "due"]
        assert await fleet.due(1) == ["overdue"]
        await fleet.unwatch(["due", "overdue"])
        assert await fleet.due() == []

    run(steps)


# -- size ----------------------------------------------------------------------------------------


def test_release_costs_the_same_however_many_calls_wait(run, store, capsys):
    async def steps(fleet):
        await fleet.configure({FAST: 1, SLOW: 1})
        held = (await fill(fleet, FAST, 2))[0]
        took = {}
        for waiting in (100, 100_000):
            have = store.zcard(redis_keys.waiting_list("fast"))
            store.zadd(
                redis_keys.waiting_list("fast"),
                {str(call_of(number)): 1e13 + number for number in range(have, waiting)},
            )
            store.sadd(redis_keys.WAITING_LISTS, FAST)
            store.config_resetstat()
            begun = time.perf_counter()
            for _ in range(50):
                (admitted,) = await fleet.release(held, FAST)
                held = admitted.call
            calls = sum(
                figures["calls"]
                for name, figures in store.info("commandstats").items()
                if name in {"cmdstat_zrange", "cmdstat_zrem", "cmdstat_zadd", "cmdstat_zcard", "cmdstat_smembers"}
            )
            took[waiting] = (calls, (time.perf_counter() - begun) / 50)
        # The same commands, each of them O(log n): no look at those who wait behind the first.
        assert took[100][0] == took[100_000][0]
        with capsys.disabled():
            print("".join(f"\n  {n:>7,} waiting: {s * 1e6:.0f} µs a release" for n, (_, s) in took.items()))  # noqa: T201

    run(steps)


def test_tick_admits_a_bounded_number_of_calls(run, store):
    async def steps(fleet):
        await fleet.configure({FAST: 1000, SLOW: 1})
        store.zadd(redis_keys.waiting_list("fast"), {str(call_of(number)): number for number in range(500)})
        store.sadd(redis_keys.WAITING_LISTS, FAST)
        assert [len(await fleet.tick()) for _ in range(4)] == [200, 200, 100, 0]

    run(steps)
