"""The limiter on a real Valkey: breakers, budgets and hedges."""

from __future__ import annotations

import asyncio

import pytest

from tasks.contract.result import Usage
from tasks.ledger.limiter import Grant
from tests import redis_keys
from tests.harness import ledger_runs
from tests.limiting import (
    LIMITER,
    MODELS,
    acquire,
    acquire_denied,
    breaker,
    configure,
    demand,
    empty,
    fail,
    release,
)


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with a ledger of its own on an empty fleet, on one event loop."""
    with ledger_runs(server.url, MODELS, empty) as runs:
        yield runs


# -- breakers ----------------------------------------------------------------------------------------


def test_breaker_opens_when_half_of_the_last_ten_attempts_failed(run):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 5, "ok")
        await fail(ledger, 4)
        assert await breaker(ledger) == "closed"
        await fail(ledger, 1)
        assert await breaker(ledger) == "open"
        denied = await acquire_denied(ledger)
        assert (denied.reason, denied.wait_s) == ("breaker", pytest.approx(5, abs=0.5))
        await acquire(ledger, "slow")

    run(steps)


def test_breaker_stays_closed_after_refused_inputs_and_rate_limits(run):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 20, "neutral")
        await fail(ledger, 20, "throttled")
        await fail(ledger, 20, "cancelled")
        assert await breaker(ledger) == "closed"

    run(steps)


def test_breaker_ignores_failures_older_than_its_window(run):
    async def steps(ledger):
        await configure(ledger, fast={"breaker": {"window": 1}})
        await fail(ledger, 9)
        await asyncio.sleep(1.2)
        await fail(ledger, 1)
        assert await breaker(ledger) == "closed"

    run(steps)


def test_breaker_opens_at_once_for_an_unusable_model(run):
    async def steps(ledger):
        await configure(ledger)
        grants = [await acquire(ledger) for _ in range(3)]
        await release(ledger, grants[0], "unusable", pause_s=3600, why="quota_exhausted")
        await release(ledger, grants[1], "unusable", pause_s=5)
        await release(ledger, grants[2], "ok")  # it had started before
        assert (await acquire_denied(ledger)).wait_s == pytest.approx(3600, abs=1)
        await release(ledger, await acquire(ledger, "slow"), "unusable")
        assert (await acquire_denied(ledger, "slow")).wait_s == pytest.approx(60, abs=1)

    run(steps)


def test_half_open_breaker_admits_one_probe_that_closes_or_doubles(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        for seconds in (10, 20):
            store.hset(LIMITER, "open_until", 1)
            assert await breaker(ledger) == "half-open"
            grants = await asyncio.gather(*(ledger.limiter.acquire(demand()) for _ in range(20)))
            probes = [grant for grant in grants if isinstance(grant, Grant)]
            assert len(probes) == 1
            assert probes[0].probe
            await release(ledger, probes[0], "fault")
            assert (await acquire_denied(ledger)).wait_s == pytest.approx(seconds, abs=0.5)
        store.hset(LIMITER, "open_until", 1)
        await release(ledger, await acquire(ledger))
        assert await breaker(ledger) == "closed"
        assert not (await acquire(ledger)).probe

    run(steps)


def test_probe_lapses_with_its_worker_and_lasts_while_renewed(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        store.hset(LIMITER, "open_until", 1)
        probe = await acquire(ledger)
        store.hset(LIMITER, "probe_until", 1)
        await ledger.store.run(*ledger.limiter.renew([probe]))
        assert (await acquire_denied(ledger)).reason == "breaker"
        store.hset(LIMITER, "probe_until", 1)
        assert (await acquire(ledger)).probe

    run(steps)


def test_probe_that_was_not_sent_makes_way_for_the_next(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        store.hset(LIMITER, "open_until", 1)
        await release(ledger, await acquire(ledger), "unasked")
        assert (await acquire(ledger)).probe

    run(steps)


# -- money -------------------------------------------------------------------------------------------


def test_budget_is_booked_by_estimate_and_settled_with_the_cost(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 0.01})
        dear = {"tokens": 1000, "price": (6.0, 0.0)}  # $0.006
        grant = await acquire(ledger, **dear)
        # What is only booked may come back: it makes others wait, and does not close the model.
        assert (await acquire_denied(ledger, **dear)).reason == "booked"
        assert await closed(ledger) == ""
        await release(ledger, grant, usage=Usage(input_tokens=500), cost_usd=0.003)
        grant = await acquire(ledger, **dear)
        assert (await acquire_denied(ledger, **dear)).reason == "booked"
        await release(ledger, grant, usage=Usage(input_tokens=1000), cost_usd=0.006)
        denied = await acquire_denied(ledger, **dear)
        assert denied.reason == "budget"
        assert 0 < denied.wait_s <= 86_400
        assert await closed(ledger) == "budget"
        store.hincrby(LIMITER, "day", -1)  # what was spent was spent yesterday
        await acquire(ledger, **dear)

    run(steps)


async def closed(ledger):
    return (await ledger.fleet.snapshot()).models["fast"].closed


def test_large_call_does_not_close_a_model_that_has_budget_for_usual_ones(run):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 0.01})
        usual, large = {"tokens": 100, "price": (10.0, 10.0)}, {"tokens": 950, "price": (10.0, 10.0)}
        for _ in range(3):
            usage = Usage(input_tokens=99, output_tokens=1)
            await release(ledger, await acquire(ledger, **usual), usage=usage, cost_usd=0.001)
        assert (await acquire_denied(ledger, **large)).reason == "left"
        assert await closed(ledger) == ""
        await acquire(ledger, **usual)
        denied = await acquire_denied(ledger, tokens=1100, price=(10.0, 10.0))
        assert (denied.reason, denied.cost_usd) == ("dear", pytest.approx(0.011))
        assert await closed(ledger) == ""

    run(steps)


def test_booking_of_a_crashed_attempt_ends_with_its_lease(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 0.01})
        dear = {"tokens": 1000, "price": (6.0, 0.0)}
        lost, kept = await acquire(ledger, **dear), demand(**dear)
        assert (await ledger.limiter.acquire(kept)).reason == "booked"
        store.zadd(redis_keys.leases("fast"), {lost.id: 1})
        assert isinstance(await ledger.limiter.acquire(kept), Grant)
        assert await release(ledger, lost, cost_usd=0.006) == "late"
        await ledger.store.run(*ledger.limiter.forget([await ledger.limiter.acquire(kept)]))
        await acquire(ledger, **dear)

    run(steps)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_bad_figures_lower_no_spend_rate_or_latency(run, store, bad):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 1, "tpm": 1_000_000})
        dear = {"tokens": 100, "price": (6.0, 0.0)}
        for _ in range(3):
            usage = Usage(input_tokens=90, output_tokens=10)
            await release(ledger, await acquire(ledger, **dear), usage=usage, cost_usd=0.001, took_s=1.0, waited_s=1.0)
        names = ("usd", "lat", "qw", "tok_ms", "mean_out", "mean_tok", "err", "tokens")
        before = {name: float(store.hget(LIMITER, name)) for name in names}
        usage = Usage.model_construct(input_tokens=bad, output_tokens=bad, cached_tokens=0, reasoning_tokens=0)
        figures = {"usage": usage, "cost_usd": bad, "took_s": bad, "waited_s": bad}
        assert await release(ledger, await acquire(ledger, **dear), **figures) == "ok"
        after = {name: float(store.hget(LIMITER, name)) for name in names}
        assert after["usd"] == pytest.approx(before["usd"] + 0.0006e6)  # what was booked
        assert after["tokens"] == before["tokens"] + 100
        for name in ("lat", "qw", "tok_ms", "mean_out", "mean_tok"):
            assert after[name] == pytest.approx(before[name], rel=0.1)
        assert (await ledger.limiter.states(["fast"]))["fast"].spent_usd == pytest.approx(0.0036)

    run(steps)


def test_cost_of_an_unsent_attempt_is_zero_of_a_cancelled_one_the_estimate(run):
    async def steps(ledger):
        await configure(ledger)
        costs = []
        for outcome in ("unasked", "fault", "cancelled"):
            await release(ledger, await acquire(ledger, tokens=1000, price=(6.0, 0.0)), outcome)
            costs.append((await ledger.limiter.states(["fast"]))["fast"].spent_usd)
        assert costs == pytest.approx([0, 0, 0.006])

    run(steps)


# -- hedges ------------------------------------------------------------------------------------------


def test_hedge_is_paid_from_what_calls_have_earned(run):
    async def steps(ledger):
        await configure(ledger, fast={"hedge": {"budget": 0.1}, "capacity": 1000}, slow={"capacity": 1})
        hedge = {"payer": "fast"}
        assert (await acquire_denied(ledger, "slow", **hedge)).reason == "hedges"
        for _ in range(25):
            await acquire(ledger)
        first = await acquire(ledger, "slow", **hedge)
        # A hedge that finds no slot costs nothing.
        assert (await acquire_denied(ledger, "slow", **hedge)).reason == "capacity"
        await release(ledger, first, "cancelled")
        await acquire(ledger, "slow", **hedge)
        await ledger.fleet.scale("slow", 9)
        assert (await acquire_denied(ledger, "slow", **hedge)).reason == "hedges"

    run(steps)


def test_hedge_is_never_a_probe(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"hedge": {"budget": 0.5}})
        for _ in range(4):
            await acquire(ledger)
        await fail(ledger, 10, model="slow")
        store.hset(redis_keys.limiter("slow"), "open_until", 1)
        assert (await acquire_denied(ledger, "slow", payer="fast")).reason == "breaker"

    run(steps)
