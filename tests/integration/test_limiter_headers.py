"""The limiter on a real Valkey: pauses and limits that the provider's headers ask for."""

from __future__ import annotations

import time

import pytest

from tasks.contract.errors import QuotaExhausted, RateLimited
from tasks.contract.result import RateLimits, Usage
from tasks.ledger.limiter import Denied, Grant, find_minute_limit, find_pause
from tests.harness import ledger_runs
from tests.limiting import (
    LIMITER,
    MODELS,
    acquire,
    acquire_denied,
    configure,
    demand,
    empty,
    evenly,
    heaviest_window,
    release,
    schedule,
)


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with a ledger of its own on an empty fleet, on one event loop."""
    with ledger_runs(server.url, MODELS, empty) as runs:
        yield runs


def test_pause_of_the_provider_denies_attempts_and_the_longest_counts(run):
    async def steps(ledger):
        await configure(ledger)
        grants = [await acquire(ledger) for _ in range(3)]
        for grant, seconds in zip(grants, (5, 20, 1), strict=True):
            await release(ledger, grant, "throttled", pause_s=seconds)
        denied = await acquire_denied(ledger)
        assert (denied.reason, denied.wait_s) == ("paused", pytest.approx(20, abs=0.5))
        assert (await acquire(ledger, "slow")).wait_s == 0

    run(steps)


def test_pause_below_half_a_second_is_waited_for_in_the_slot(run):
    async def steps(ledger):
        await configure(ledger)
        await release(ledger, await acquire(ledger), "throttled", pause_s=0.4)
        assert 0.2 < (await acquire(ledger)).wait_s <= 0.4

    run(steps)


@pytest.mark.parametrize(
    ("error", "headers", "seconds"),
    [
        (None, None, 0),
        (RateLimited("m", "429", retry_after=7), None, 7),
        (QuotaExhausted("m", "402", retry_after=7), RateLimits(requests_left=0, requests_reset_s=9), 9),
        (None, RateLimits(requests_limit=60, requests_left=0, requests_reset_s=60), 1),
        (None, RateLimits(requests_limit=60, requests_left=1, requests_reset_s=60), 0),
        (None, RateLimits(tokens_left=0, tokens_reset_s=3), 3),
        (None, RateLimits(tokens_left=0, tokens_reset_s=float("nan")), 0),
    ],
)
def test_find_pause_reads_headers_as_an_even_refill(error, headers, seconds):
    assert find_pause(error, headers) == seconds


@pytest.mark.parametrize(
    ("limit", "left", "reset_s", "minute"),
    [
        (60, 59, 1.0, 60),  # as OpenAI documents it
        (10_000, 9_999, 8.64, None),  # a limit of the day
        (14_400, 14_370, 179.56, None),  # and one more
        (60, 20, 40.0, 60),
        (50, 49, 2.0, None),  # rounded up to seconds: a later answer shows it
        (50, 30, 25.0, 50),
        (5, 4, 0.2, None),  # a limit of the second
        (60, 60, 0.0, None),
        (60, 0, 60.0, 60),
        (None, 3, 60.0, None),
        (60, None, 60.0, None),
        (60, 30, None, None),
        (60, 30, float("nan"), None),
    ],
)
def test_find_minute_limit_recognizes_a_minute_by_the_time_of_a_refill(limit, left, reset_s, minute):
    assert find_minute_limit(limit, left, reset_s) == minute


@pytest.mark.parametrize("configured", [{}, {"rpm": 6000}])
def test_lower_limit_in_headers_counts_for_the_whole_fleet(run, configured):
    async def steps(ledger):
        await configure(ledger, fast={**configured, "capacity": 1000})
        await release(ledger, await acquire(ledger), rate_limits=evenly(120, 119))
        starts = await schedule(ledger, [1] * 400)
        assert heaviest_window([(at, 1) for at, _ in starts], 60.0) <= 120
        assert starts[-1][0] - starts[0][0] <= 401 * 60 / 120 / 0.96
        assert (await ledger.limiter.states(["fast"]))["fast"].rpm == 120
        assert (await acquire(ledger, "slow")).wait_s == 0

    run(steps)


def test_higher_limit_in_headers_does_not_loosen_the_configured_one(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 60, "tpm": 1000, "capacity": 1000})
        headers = RateLimits(600, 599, 0.1, 100_000, 99_000, 0.6)
        await release(ledger, await acquire(ledger), rate_limits=headers)
        starts = await schedule(ledger, [20] * 150)
        assert heaviest_window([(at, 1) for at, _ in starts], 60.0) <= 60
        assert heaviest_window(starts, 60.0) <= 1000

    run(steps)


def test_limit_in_headers_lapses_after_two_minutes_without_it(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        await release(ledger, await acquire(ledger), rate_limits=evenly(60, 59))
        assert float(store.hget(LIMITER, "said_r_until")) == pytest.approx(time.time() * 1000 + 120_000, abs=5000)
        while isinstance(await ledger.limiter.acquire(demand()), Grant):
            pass
        assert (await acquire_denied(ledger)).reason == "rpm"
        store.hset(LIMITER, "said_r_until", 1)
        assert [(await acquire(ledger)).wait_s for _ in range(20)] == [0] * 20

    run(steps)


def test_token_limit_in_headers_is_paced_and_settled(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        headers = RateLimits(tokens_limit=6000, tokens_left=5990, tokens_reset_s=0.1)
        await release(ledger, await acquire(ledger), rate_limits=headers)
        starts = await schedule(ledger, [100] * 150)
        assert heaviest_window(starts, 60.0) <= 6000
        assert starts[-1][0] - starts[0][0] <= 151 * 100 * 60 / 6000 / 0.9

    run(steps)


def test_bucket_holds_no_more_than_headers_say_is_left(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 600, "capacity": 1000})  # 24 at once
        # Another service has used the same key: three are left, the 597 others come back within a minute.
        await release(ledger, await acquire(ledger), rate_limits=evenly(600, 3))
        starts = [at for at, _ in await schedule(ledger, [1] * 30)]
        assert sum(1 for at in starts if at < starts[0] + 0.01) == 3
        assert starts[-1] - starts[0] == pytest.approx(27 * 60 / 577, abs=0.1)

    run(steps)


def test_requests_left_in_headers_exclude_those_granted_later(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        first = await acquire(ledger)
        for _ in range(4):
            await acquire(ledger)
        # A window that does not fill evenly: ten are left for an hour, and four of them are on their way.
        await release(ledger, first, rate_limits=RateLimits(requests_left=10, requests_reset_s=3600))
        for _ in range(6):
            await acquire(ledger)
        denied = await acquire_denied(ledger)
        assert (denied.reason, denied.wait_s) == ("rpm", pytest.approx(120, abs=5))

    run(steps)


def test_headers_of_an_overtaken_answer_are_ignored(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        slow, quick = await acquire(ledger), await acquire(ledger)
        await release(ledger, quick, rate_limits=RateLimits(requests_left=1, requests_reset_s=30))
        await release(ledger, slow, rate_limits=RateLimits(requests_left=50, requests_reset_s=30))
        await acquire(ledger)
        assert (await acquire_denied(ledger)).reason == "rpm"

    run(steps)


def test_headers_from_before_a_loss_of_memory_do_not_block_later_ones(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        for _ in range(20):
            old = await acquire(ledger)
        await ledger.store.run(("FLUSHALL",))
        await configure(ledger, fast={"capacity": 1000})
        await ledger.store.run(*ledger.limiter.renew([old]))
        new = await acquire(ledger)
        assert await release(ledger, old, rate_limits=RateLimits(requests_left=0, requests_reset_s=30)) == "ok"
        await acquire(ledger)
        await release(ledger, new, rate_limits=RateLimits(requests_left=1, requests_reset_s=30))
        assert (await acquire_denied(ledger)).reason == "rpm"

    run(steps)


def test_requests_left_of_a_day_bound_starts_but_set_no_minute_limit(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        await release(ledger, await acquire(ledger), rate_limits=RateLimits(200, 40, 69_120))
        assert [(await acquire(ledger)).wait_s for _ in range(40)] == [0] * 40
        assert (await acquire_denied(ledger)).reason == "rpm"

    run(steps)


def test_tokens_left_come_back_by_settlement_and_by_the_reset(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        headers = RateLimits(tokens_left=1000, tokens_reset_s=2.4)
        await release(ledger, await acquire(ledger), rate_limits=headers)
        grant = await acquire(ledger, tokens=900)
        assert isinstance(await ledger.limiter.acquire(demand(tokens=500), horizon=0.1), Denied)
        await release(ledger, grant, usage=Usage(input_tokens=300))
        assert (await acquire(ledger, tokens=500)).wait_s == 0
        waits = await ledger.limiter.acquire(demand(tokens=900), horizon=5)
        assert isinstance(waits, Grant)
        assert 0.5 < waits.wait_s <= 2.4

    run(steps)


@pytest.mark.parametrize("headers", [RateLimits(), RateLimits(60, 30, float("nan"), 60, 30, float("inf"))])
def test_headers_without_figures_change_nothing(run, headers):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        await release(ledger, await acquire(ledger), rate_limits=headers)
        assert [(await acquire(ledger)).wait_s for _ in range(100)] == [0] * 100

    run(steps)
