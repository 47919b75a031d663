"""What strategies say, as admission carries it out on a real Valkey: the same choice as `pick_model`, and no herd."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.contract.job import CallId
from tasks.ledger import Ledger
from tasks.routing.choose import pick_model
from tasks.routing.options import read_options, strategy_named
from tests import redis_keys
from tests.harness import part_call
from tests.snapshots import ALL, names, request

MODELS = names(4)


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with the fleet's side of a ledger and a plain client; the fleet is empty at first."""
    with asyncio.Runner() as runner, redis.Redis.from_url(server.url, decode_responses=True) as store:

        async def call(function):
            ledger = Ledger(server.url, MODELS)
            try:
                store.flushdb()
                return await function(ledger.fleet, store)
            finally:
                await ledger.close()

        yield lambda function: runner.run(call(function))


async def admitted(fleet, number, name, *, seed=0, key="k", options=None):
    """Have one call routed; who gets it, and whom `pick_model` would have given it to."""
    snapshot = await fleet.snapshot(turn="r")
    asked = request(seed, key=key, options=options)
    ranking = strategy_named(name)(asked, MODELS, snapshot)
    call = CallId(f"job{number:06}", 0)
    reply = await fleet.admit(call, ranking, priority="normal")
    return call, dict(reply).get(call), pick_model(ranking, snapshot)


@pytest.mark.parametrize("name", ALL)
def test_admission_takes_the_preferred_model_where_all_have_room(run, name):
    async def steps(fleet, _store):
        chance = Random(name)
        await fleet.configure({model: 20 + place for place, model in enumerate(MODELS)})
        for number in range(30):
            _, model, wanted = await admitted(fleet, number, name, seed=chance.getrandbits(64), key=str(number % 7))
            assert model == wanted

    run(steps)


@pytest.mark.parametrize(
    "name", ["least_connections", "power_of_two", "round_robin", "random", "contextual", "profile"]
)
def test_trickle_over_an_idle_fleet_does_not_all_go_to_the_first_model(run, name):
    async def steps(fleet, _store):
        chance = Random(name)
        await fleet.configure(dict.fromkeys(MODELS, 4))
        counts = Counter()
        for number in range(80):
            call, model, _ = await admitted(fleet, number, name, seed=chance.getrandbits(64))
            counts[model] += 1
            await fleet.release(call, model)
        assert set(counts) == set(MODELS)
        assert max(counts.values()) <= 40

    run(steps)


#: A fleet: of each model its capacity, single calls, parts, calls that wait for it, and whether it is closed.
STATES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 12), st.integers(0, 12), st.integers(0, 6), st.booleans()),
    min_size=len(MODELS),
    max_size=len(MODELS),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=STATES, factor=st.floats(1.0, 4.0), keys=st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_bounded_hashing_is_the_same_in_admission_as_in_pick_model(run, state, factor, keys):
    async def steps(fleet, store):
        capacities = {model: capacity for model, (capacity, *_) in zip(MODELS, state, strict=True)}
        await fleet.configure(capacities)
        for model, (_, singles, parts, waiting, closed) in zip(MODELS, state, strict=True):
            single = [CallId(f"single{model}{number}", 0) for number in range(singles)]
            await fleet.lease({model: [*single, *(part_call(f"part{model}", number) for number in range(parts))]})
            for number in range(waiting):
                # Some wait for this model alone, some would take another once it is closed.
                rest = sorted(set(MODELS) - {model})
                models = f"{model}>{','.join(rest)}" if number % 2 else model
                store.zadd(redis_keys.waiting_list(models), {f"waits{model}{number}.0": 1e15 + number})
                store.sadd(redis_keys.WAITING_LISTS, models)
            if closed:
                await fleet.drain(model, on=True)
        options = read_options("consistent_hash", {"factor": factor})
        for number, key in enumerate(keys):
            snapshot = await fleet.snapshot(turn="r")
            if all(load.closed or not load.capacity for load in snapshot.models.values()):
                return  # then no model is chosen now: the call waits
            call, _, wanted = await admitted(fleet, number, "consistent_hash", key=key, options=options)
            assert _where(store)[str(call)] == wanted

    run(steps)


def _where(store):
    """The model that each call is at, or waits for."""
    found = {}
    for key in store.keys(redis_keys.claims("*")):
        found |= dict.fromkeys(store.zrange(key, 0, -1), key.rsplit(":", 1)[1])
    for key in store.keys(redis_keys.waiting_list("*")):
        found |= dict.fromkeys(store.zrange(key, 0, -1), key.rsplit(":", 1)[1].split(">")[0])
    return found


def test_hot_key_spills_over_up_to_its_bound(run):
    async def steps(fleet, _store):
        await fleet.configure(dict.fromkeys(MODELS, 10))
        counts = Counter()
        for number in range(40):
            _, model, _ = await admitted(fleet, number, "consistent_hash", key="everybody asks this")
            counts[model] += 1
            # ⌈1.25 · calls / 4⌉: exactly the share that the bound allows.
            assert counts[model] <= -(-5 * (number + 1) // 16)
        assert max(counts.values()) == 13

    run(steps)
