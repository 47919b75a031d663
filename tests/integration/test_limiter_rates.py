"""The limiter on a real Valkey: rates, and slots in flight."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.contract.result import Usage
from tasks.ledger.limiter import Denied, Grant
from tests import redis_keys
from tests.harness import ledger_runs
from tests.limiting import (
    MODELS,
    acquire,
    acquire_denied,
    configure,
    demand,
    empty,
    heaviest_window,
    release,
    schedule,
)


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with a ledger of its own on an empty fleet, on one event loop."""
    with ledger_runs(server.url, MODELS, empty) as runs:
        yield runs


# -- rates -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 120), calls=st.integers(2, 150), gaps=st.lists(st.floats(0, 0.03), max_size=10))
def test_acquire_keeps_each_window_within_rpm_and_uses_nearly_all_of_it(run, limit, calls, gaps):
    window = 1.0

    async def steps(ledger):
        await configure(ledger, window=window, fast={"rpm": limit, "capacity": 1000})
        return await schedule(ledger, [1] * calls, gaps)

    starts = run(steps)
    assert heaviest_window([(at, 1) for at, _ in starts], window) <= limit
    # What came at once starts at the even pace: 96 % of the limit, or more where the burst is rounded down.
    took = starts[-1][0] - starts[0][0]
    assert took <= (calls + 1) * window / limit / 0.96 + sum(gaps) + 0.5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(50, 5000), sizes=st.lists(st.integers(1, 800), min_size=1, max_size=60))
def test_acquire_keeps_each_window_within_tpm_unless_one_call_has_more(run, limit, sizes):
    window = 1.0

    async def steps(ledger):
        await configure(ledger, window=window, fast={"tpm": limit, "capacity": 1000})
        return await schedule(ledger, sizes)

    assert heaviest_window(run(steps), window) <= max(limit, *sizes)


def test_acquire_of_more_than_the_burst_waits_for_a_full_bucket(run):
    async def steps(ledger):
        await configure(ledger, window=1.0, fast={"tpm": 1000})
        await acquire(ledger, tokens=600)
        denied = await ledger.limiter.acquire(demand(tokens=900), horizon=0.1)
        assert isinstance(denied, Denied)
        assert denied.reason == "tpm"
        await asyncio.sleep(denied.wait_s)
        assert (await acquire(ledger, tokens=900)).wait_s <= 0.05

    run(steps)


def test_acquire_books_a_start_within_two_seconds_and_denies_a_later_one(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 60})  # two at once, then 59 in a minute
        waits = []
        while isinstance(answer := await ledger.limiter.acquire(demand()), Grant):
            waits.append(answer.wait_s)
        assert waits[:2] == [0, 0]
        assert 0 < waits[2] <= 1.02
        assert all(wait <= 2 for wait in waits)
        assert answer.reason == "rpm"
        assert 2 < answer.wait_s <= 3.1
        # A denied attempt books nothing: the next one waits no longer.
        assert (await ledger.limiter.acquire(demand(), horizon=10)).wait_s <= answer.wait_s

    run(steps)


def test_release_settles_tokens_with_those_that_were_used(run):
    async def steps(ledger):
        await configure(ledger, window=10.0, fast={"tpm": 1000})
        grant = await acquire(ledger, tokens=100, output=900)
        assert (await acquire_denied(ledger, tokens=50)).reason == "tpm"
        await release(ledger, grant, usage=Usage(input_tokens=60, output_tokens=20))
        assert (await acquire(ledger, tokens=50)).wait_s < 0.5
        short = await acquire(ledger, tokens=1)
        await release(ledger, short, usage=Usage(input_tokens=1, output_tokens=5000))
        assert (await acquire_denied(ledger, tokens=1)).wait_s > 30

    run(steps)


def test_acquire_estimates_an_answer_by_the_mean_of_earlier_ones(run):
    async def steps(ledger):
        await configure(ledger, fast={})
        first = await acquire(ledger, tokens=10, output=None)
        assert first.tokens == 10 + 256
        await release(ledger, first, usage=Usage(input_tokens=10, output_tokens=40))
        assert (await acquire(ledger, tokens=10, output=None)).tokens == 50

    run(steps)


def test_key_limits_all_models_that_share_it(run):
    async def steps(ledger):
        key = {"api_key_env": "KEY"}
        await configure(ledger, fast=key, slow=key, keys={"KEY": {"concurrency": 2, "rpm": 240}})
        grants = [await acquire(ledger), await acquire(ledger, "slow")]
        assert (await acquire_denied(ledger)).reason == "key"
        await release(ledger, grants[0])
        await acquire(ledger, "slow")
        await configure(ledger, fast=key, slow=key, keys={"KEY": {"rpm": 60}})
        granted = 0
        while isinstance(await ledger.limiter.acquire(demand(MODELS[granted % 2])), Grant):
            granted += 1
        assert 1 <= granted <= 4
        assert {(await acquire_denied(ledger, model)).reason for model in MODELS} == {"rpm"}
        assert (await ledger.limiter.states([], ["KEY"]))["KEY"].requests == 3 + granted

    run(steps)


def test_configure_replaces_all_limits_of_the_last_configuration(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 1})
        await acquire(ledger)
        assert (await acquire_denied(ledger)).reason == "rpm"
        await configure(ledger, fast={})
        await acquire(ledger)

    run(steps)


# -- slots ------------------------------------------------------------------------------------------


def test_capacity_bounds_attempts_in_flight_also_when_scaled(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 2})
        first = await acquire(ledger)
        await acquire(ledger)
        assert (await acquire_denied(ledger)).reason == "capacity"
        await ledger.fleet.scale("fast", 3)
        await acquire(ledger)
        await ledger.fleet.scale("fast", 2)
        await release(ledger, first)
        assert (await acquire_denied(ledger)).reason == "capacity"

    run(steps)


def test_slot_is_free_when_its_lease_lapses_unless_it_is_renewed(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1})
        grant = await acquire(ledger)
        store.zadd(redis_keys.leases("fast"), {grant.id: time.time() * 1000 - 1})
        await ledger.store.run(*ledger.limiter.renew([grant]))
        assert (await acquire_denied(ledger)).reason == "capacity"
        store.zadd(redis_keys.leases("fast"), {grant.id: time.time() * 1000 - 1})
        await acquire(ledger)

    run(steps)


def test_release_that_arrives_twice_counts_once(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 1})
        grant = await acquire(ledger, tokens=100, price=(1000, 0))
        assert await release(ledger, grant, usage=Usage(input_tokens=10), cost_usd=0.01) == "ok"
        assert await release(ledger, grant, usage=Usage(input_tokens=10), cost_usd=0.01) == "late"
        assert (await ledger.limiter.states(["fast"]))["fast"].spent_usd == pytest.approx(0.01)

    run(steps)
