"""What routing knows of the fleet, on a real Valkey: what attempts report, and what is done with it at admission."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from tasks.config.config import Config
from tasks.config.models import Price
from tasks.contract.job import CallId
from tasks.contract.result import Usage
from tasks.ledger import Admitted
from tasks.ledger.limiter import AttemptEnd, Demand, Grant
from tasks.routing.choose import pick_model
from tasks.routing.model_statistics import ModelStatistics, observe
from tasks.routing.snapshot import Preference, Ranking
from tests import redis_keys
from tests.harness import ledger_runs, ranked

MODELS = ("fast", "mid", "slow")
#: A breaker that stays closed, whatever is reported here.
NEVER = {"attempts": 10_000}
LIMITER = redis_keys.limiter("fast")
calls = (CallId(f"{number:026d}", 0) for number in itertools.count())


@pytest.fixture
def run(server, store):
    """Run a coroutine function with a ledger whose models have a capacity of 4 each."""

    async def view(ledger):
        route = {"models": list(MODELS)}
        models = {name: {"provider": "simulated", "capacity": 4, "breaker": NEVER} for name in MODELS}
        config = Config.model_validate({"models": models, "routes": {"r": route}, "default_route": "r"})
        await ledger.fleet.configure(dict.fromkeys(MODELS, 4))
        await ledger.limiter.configure(config)
        return ledger

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs


async def attempt(ledger, outcome="ok", *, model="fast", took_s=1.0, waited_s=None, tokens=None):
    grant = await ledger.limiter.acquire(Demand(str(next(calls)), model, 10, None, Price()))
    assert isinstance(grant, Grant), grant
    usage = Usage(input_tokens=10, output_tokens=tokens) if tokens is not None else None
    end = AttemptEnd(outcome, usage=usage, took_s=took_s, waited_s=waited_s)
    assert await ledger.limiter.release(grant, end) == "ok"


async def seen(ledger, model="fast"):
    return (await ledger.fleet.snapshot([model])).models[model]


async def admit(ledger, *preferences, bound=False, balance=None, call=None):
    wanted = [Preference(*preference) for preference in preferences]
    return await ledger.fleet.admit(
        call or next(calls), ranked(wanted, bound=bound, balance=balance), priority="normal"
    )


# -- what attempts report ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_script_has_the_statistics_of_the_formulas_sample_by_sample(run, store, seed):
    rng = random.Random(seed)

    async def steps(ledger):
        live = ModelStatistics()
        for _ in range(60):
            outcome = rng.choice(["ok", "ok", "ok", "fault", "throttled", "neutral", "cancelled", "unasked"])
            took_s, waited_s = round(rng.expovariate(1.0) + 0.01, 4), rng.choice([None, round(rng.random(), 4)])
            tokens = rng.randrange(1, 900) if outcome == "ok" and rng.random() < 0.8 else None
            now = await ledger.fleet.now()
            if live.latency_s is not None:
                # Time passes: the last sample becomes so much older.
                age = rng.choice([0.0, 0.5, 5.0, 60.0])
                store.hset(LIMITER, "lat_at", int((now - age) * 1000))
                live = replace(live, latency_at=now - age)
            await attempt(ledger, outcome, took_s=took_s, waited_s=waited_s, tokens=tokens)
            live = observe(live, now, outcome, took_s, waited_s, tokens)
            load = await seen(ledger)
            assert load.latency_s == (None if live.latency_s is None else pytest.approx(live.latency_s, rel=0.01))
            assert load.token_s == (None if live.token_s is None else pytest.approx(live.token_s, rel=0.01))
            assert load.errors == pytest.approx(live.errors, rel=1e-6)
            assert load.faults == live.faults
            assert load.queue_wait_s == pytest.approx(live.queue_wait_s or 0.0, rel=0.01, abs=1e-4)

    run(steps)


def test_model_without_attempts_is_unknown_and_not_quick(run):
    async def steps(ledger):
        load = await seen(ledger)
        assert (load.latency_s, load.token_s, load.faults, load.errors) == (None, None, 0, 0.0)
        assert load.seen_s == load.fault_s == float("inf")

    run(steps)


def test_fast_failure_does_not_lower_the_latency(run):
    async def steps(ledger):
        await attempt(ledger, took_s=1.0)
        for _ in range(3):
            await attempt(ledger, "fault", took_s=0.005)
        load = await seen(ledger)
        assert load.latency_s == pytest.approx(1.0)
        assert load.faults == 3
        assert load.fault_s < 5
        await attempt(ledger, took_s=1.0)
        assert (await seen(ledger)).faults == 0

    run(steps)


def test_snapshot_has_the_rates_of_the_last_minute(run):
    async def steps(ledger):
        for _ in range(6):
            await attempt(ledger, tokens=110)
        load = await seen(ledger)
        # A minute that began between two attempts counts in part.
        assert 0 < load.calls_per_s <= 6 / 60
        assert 0 < load.tokens_per_s <= 6 * 120 / 60 + 1

    run(steps)


# -- what is done with it at admission ---------------------------------------------------------------


def test_waiting_call_keeps_its_preferences(run, store):
    async def steps(ledger):
        for _ in range(8):
            for model in MODELS:
                assert await admit(ledger, (model, 0.0))
        first, second = next(calls), next(calls)
        # Both models are full; the call wants "mid" whatever its load, and would not be sample so by that load.
        assert await admit(ledger, ("mid", 0.0, 0.0), ("slow", 5.0, 0.0), call=first) == []
        assert await admit(ledger, ("mid", 5.0, 0.0), ("slow", 0.0, 0.0), call=second) == []
        held = [CallId.parse(name) for name in store.zrange(redis_keys.claims("mid"), 0, -1)]
        other = [CallId.parse(name) for name in store.zrange(redis_keys.claims("slow"), 0, -1)]
        await ledger.fleet.forget([Admitted(held[0], "mid"), Admitted(other[0], "slow")])
        assert await ledger.fleet.tick() == [Admitted(first, "mid"), Admitted(second, "slow")]
        assert store.hlen(redis_keys.PREFERENCES) == 0

    run(steps)


def test_preferences_are_removed_with_their_call(run, store):
    async def steps(ledger):
        for _ in range(8):
            for model in MODELS:
                await admit(ledger, (model, 0.0))
        call = next(calls)
        await admit(ledger, ("mid", 0.0), ("slow", 1.0), call=call)
        assert store.hlen(redis_keys.PREFERENCES) == 1
        await ledger.fleet.withdraw([call])
        assert store.hlen(redis_keys.PREFERENCES) == 0

    run(steps)


def test_bound_call_of_a_closed_model_takes_its_next_preference(run):
    async def steps(ledger):
        await admit(ledger, ("slow", 0.0))
        await ledger.fleet.drain("fast", on=True)
        (place,) = await admit(ledger, ("fast", 0.0), ("slow", 1.0), ("mid", 2.0), bound=True)
        assert place.model == "slow"

    run(steps)


def test_drained_model_gets_no_call_until_the_drain_ends(run):
    async def steps(ledger):
        await ledger.fleet.drain("fast", on=True)
        assert (await seen(ledger)).closed == "drained"
        waits = next(calls)
        assert await admit(ledger, ("fast", 0.0), call=waits) == []
        (place,) = await admit(ledger, ("fast", 0.0, 1.0), ("mid", 9.0, 1.0))
        assert place.model == "mid"
        await ledger.fleet.drain("fast", on=False)
        assert (await seen(ledger)).closed == ""
        assert await ledger.fleet.tick() == [Admitted(waits, "fast")]

    run(steps)


def test_fallback_takes_calls_while_all_others_are_closed_not_full(run):
    async def steps(ledger):
        preferences = [Preference("fast", 0.0, 1.0), Preference("mid", 0.0, 1.0), Preference("slow", 9.0)]

        async def go(call):
            return await ledger.fleet.admit(call, ranked(preferences, fallbacks=1), priority="normal")

        taken = [place.model for _ in range(16) for place in await go(next(calls))]
        assert sorted(taken) == ["fast"] * 8 + ["mid"] * 8
        waits = next(calls)
        assert await go(waits) == []
        await ledger.fleet.drain("fast", on=True)
        assert await ledger.fleet.tick() == []
        await ledger.fleet.drain("mid", on=True)
        assert await ledger.fleet.tick() == [Admitted(waits, "slow")]

    run(steps)


@pytest.mark.parametrize("seed", range(4))
def test_script_bounds_the_load_as_pick_model_does(run, seed):
    rng = random.Random(seed)

    async def steps(ledger):
        for _ in range(40):
            order = rng.sample(MODELS, 3)
            if rng.random() < 0.7:  # a popular key
                order = list(MODELS)
            preferences = [Preference(model, float(place)) for place, model in enumerate(order)]
            ranking = Ranking(tuple(preferences), bound=True, reason="", balance=1.25)
            before = await ledger.fleet.snapshot()
            expected = pick_model(ranking, before)
            await admit(ledger, *preferences, bound=True, balance=1.25)
            after = await ledger.fleet.snapshot()
            taken = [
                model
                for model in MODELS
                if after.models[model].pending + after.models[model].bound
                > before.models[model].pending + before.models[model].bound
            ]
            assert taken == [expected]
            loads = [load.pending + load.bound for load in after.models.values()]
            assert max(loads) <= -(-1.25 * sum(loads) // 3)

    run(steps)
