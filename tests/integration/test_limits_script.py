"""The limits on a real Valkey: every step of `limiter.lua`, and what admission makes of it."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.config import Config
from tasks.config.models import Price
from tasks.contract.errors import QuotaExhausted, RateLimited
from tasks.contract.ids import CallId
from tasks.contract.job_parsing import parse_job
from tasks.contract.rate_limits import RateLimits
from tasks.contract.result import Decision, Tried, Usage
from tasks.ledger import Admitted, PartRecord, StagePlan
from tasks.ledger.limiter import AttemptEnd, Demand, Denied, Grant, find_minute_limit, find_pause
from tasks.parallel.part_spec import PartSpec
from tasks.routing.snapshot import Preference
from tests import redis_keys
from tests.harness import ledger_runs, ranked

MODELS = ("fast", "slow")
ids = (f"p:{number}" for number in itertools.count())
#: Longer than any schedule here: every attempt is granted, and told when it may start.
FOREVER = 1e6
LIMITER = redis_keys.limiter("fast")


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with a ledger of its own on an empty fleet, on one event loop."""

    async def view(ledger):
        await ledger.store.run(("FLUSHALL",))
        return ledger

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs


def config_of(*, fast=None, slow=None, keys=None):
    models = {"fast": {"provider": "simulated", **(fast or {})}, "slow": {"provider": "simulated", **(slow or {})}}
    return Config.model_validate(
        {
            "models": models,
            "keys": keys or {},
            "routes": {"only": {"models": list(models)}},
            "default_route": "only",
        }
    )


async def configure(ledger, *, window=60.0, **sections):
    config = config_of(**sections)
    await ledger.fleet.configure({name: model.capacity for name, model in config.models.items()})
    await ledger.limiter.configure(config, window=window)


def ask(model="fast", *, tokens=10, price=(0.0, 0.0), payer="", output=0):
    return Demand(next(ids), model, tokens, output, Price(input=price[0], output=price[1]), payer)


async def taken(ledger, model="fast", **more):
    grant = await ledger.limiter.acquire(ask(model, **more))
    assert isinstance(grant, Grant), grant
    return grant


async def refused(ledger, model="fast", **more):
    denied = await ledger.limiter.acquire(ask(model, **more))
    assert isinstance(denied, Denied), denied
    return denied


async def report(ledger, grant, outcome="ok", **more):
    return await ledger.limiter.release(grant, AttemptEnd(outcome, **more))


async def fail(ledger, times, outcome="fault", model="fast", **more):
    for _ in range(times):
        await report(ledger, await taken(ledger, model), outcome, **more)


async def breaker(ledger, model="fast"):
    return (await ledger.limiter.states([model]))[model].breaker


def crowded(starts, window):
    """The largest weight within any window: `starts` are pairs of seconds and weight."""
    starts = sorted(starts)
    # A wait is told in whole milliseconds.
    return max(
        sum(weight for at, weight in starts[place:] if at < start + window - 0.003)
        for place, (start, _) in enumerate(starts)
    )


# -- rates ---------------------------------------------------------------------------------------


async def schedule(ledger, sizes, gaps=(), **more):
    """The moments at which calls of these sizes may start, asked one after the other with these gaps between."""
    starts = []
    for size, gap in itertools.zip_longest(sizes, gaps[: len(sizes)], fillvalue=0.0):
        wanted = ask(tokens=size, **more)
        # The server's own clock, in the same breath: how busy this machine is doesn't show in it.
        now, granted = await ledger.store.run(ledger.fleet.now(), ledger.limiter.acquire(wanted, horizon=FOREVER))
        starts.append((now + granted.wait_s, size))
        if gap:
            await asyncio.sleep(gap)
    return starts


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 120), calls=st.integers(2, 150), gaps=st.lists(st.floats(0, 0.03), max_size=10))
def test_no_window_ever_holds_more_requests_than_the_limit_and_nearly_all_of_it_is_usable(run, limit, calls, gaps):
    window = 1.0

    async def steps(ledger):
        await configure(ledger, window=window, fast={"rpm": limit, "capacity": 1000})
        return await schedule(ledger, [1] * calls, gaps)

    starts = run(steps)
    assert crowded([(at, 1) for at, _ in starts], window) <= limit
    # What came at once starts at the even pace: 96 % of the limit, or more where the burst is rounded down.
    took = starts[-1][0] - starts[0][0]
    assert took <= (calls + 1) * window / limit / 0.96 + sum(gaps) + 0.5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(50, 5000), sizes=st.lists(st.integers(1, 800), min_size=1, max_size=60))
def test_no_window_ever_holds_more_tokens_than_the_limit_unless_one_call_has_more(run, limit, sizes):
    window = 1.0

    async def steps(ledger):
        await configure(ledger, window=window, fast={"tpm": limit, "capacity": 1000})
        return await schedule(ledger, sizes)

    assert crowded(run(steps), window) <= max(limit, *sizes)


def test_a_call_that_is_larger_than_the_burst_passes_when_nothing_was_taken_for_as_long(run):
    async def steps(ledger):
        await configure(ledger, window=1.0, fast={"tpm": 1000})
        await taken(ledger, tokens=600)
        denied = await ledger.limiter.acquire(ask(tokens=900), horizon=0.1)
        assert isinstance(denied, Denied)
        assert denied.reason == "tpm"
        await asyncio.sleep(denied.wait_s)
        assert (await taken(ledger, tokens=900)).wait_s <= 0.05

    run(steps)


def test_a_start_within_two_seconds_is_booked_and_a_later_one_is_refused_with_the_time_to_wait(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 60})  # two at once, then 59 in a minute
        waits = []
        while isinstance(answer := await ledger.limiter.acquire(ask()), Grant):
            waits.append(answer.wait_s)
        assert waits[:2] == [0, 0]
        assert 0 < waits[2] <= 1.02
        assert all(wait <= 2 for wait in waits)
        assert answer.reason == "rpm"
        assert 2 < answer.wait_s <= 3.1
        # Nothing was booked for who was refused: the next one has no more to wait.
        assert (await ledger.limiter.acquire(ask(), horizon=10)).wait_s <= answer.wait_s

    run(steps)


def test_tokens_are_settled_with_what_was_used(run):
    async def steps(ledger):
        await configure(ledger, window=10.0, fast={"tpm": 1000})
        grant = await taken(ledger, tokens=100, output=900)
        assert (await refused(ledger, tokens=50)).reason == "tpm"
        await report(ledger, grant, usage=Usage(input_tokens=60, output_tokens=20))
        assert (await taken(ledger, tokens=50)).wait_s < 0.5
        short = await taken(ledger, tokens=1)
        await report(ledger, short, usage=Usage(input_tokens=1, output_tokens=5000))
        assert (await refused(ledger, tokens=1)).wait_s > 30

    run(steps)


def test_the_answer_is_taken_to_be_as_long_as_the_mean_of_those_before(run):
    async def steps(ledger):
        await configure(ledger, fast={})
        first = await taken(ledger, tokens=10, output=None)
        assert first.tokens == 10 + 256
        await report(ledger, first, usage=Usage(input_tokens=10, output_tokens=40))
        assert (await taken(ledger, tokens=10, output=None)).tokens == 50

    run(steps)


def test_a_key_bounds_all_models_that_share_it(run):
    async def steps(ledger):
        key = {"api_key_env": "KEY"}
        await configure(ledger, fast=key, slow=key, keys={"KEY": {"concurrency": 2, "rpm": 240}})
        grants = [await taken(ledger), await taken(ledger, "slow")]
        assert (await refused(ledger)).reason == "key"
        await report(ledger, grants[0])
        await taken(ledger, "slow")
        await configure(ledger, fast=key, slow=key, keys={"KEY": {"rpm": 60}})
        granted = 0
        while isinstance(await ledger.limiter.acquire(ask(MODELS[granted % 2])), Grant):
            granted += 1
        assert 1 <= granted <= 4
        assert {(await refused(ledger, model)).reason for model in MODELS} == {"rpm"}
        assert (await ledger.limiter.states([], ["KEY"]))["KEY"].requests == 3 + granted

    run(steps)


def test_the_newest_configuration_wins_and_what_it_leaves_out_is_no_limit(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 1})
        await taken(ledger)
        assert (await refused(ledger)).reason == "rpm"
        await configure(ledger, fast={})
        await taken(ledger)

    run(steps)


# -- places --------------------------------------------------------------------------------------


def test_no_more_calls_are_in_flight_than_the_capacity_and_an_operator_may_scale_it(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 2})
        first = await taken(ledger)
        await taken(ledger)
        assert (await refused(ledger)).reason == "capacity"
        await ledger.fleet.scale("fast", 3)
        await taken(ledger)
        await ledger.fleet.scale("fast", 2)
        await report(ledger, first)
        assert (await refused(ledger)).reason == "capacity"

    run(steps)


def test_the_place_of_a_dead_worker_is_free_when_its_lease_has_lapsed_and_one_that_is_kept_is_not(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1})
        grant = await taken(ledger)
        store.zadd(redis_keys.leases("fast"), {grant.id: time.time() * 1000 - 1})
        await ledger.store.run(*ledger.limiter.renew([grant]))
        assert (await refused(ledger)).reason == "capacity"
        store.zadd(redis_keys.leases("fast"), {grant.id: time.time() * 1000 - 1})
        await taken(ledger)

    run(steps)


def test_a_report_that_arrives_twice_counts_once(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 1})
        grant = await taken(ledger, tokens=100, price=(1000, 0))
        assert await report(ledger, grant, usage=Usage(input_tokens=10), cost_usd=0.01) == "ok"
        assert await report(ledger, grant, usage=Usage(input_tokens=10), cost_usd=0.01) == "late"
        assert (await ledger.limiter.states(["fast"]))["fast"].spent_usd == pytest.approx(0.01)

    run(steps)


# -- what the provider says ----------------------------------------------------------------------


def test_a_provider_that_asks_for_a_pause_gets_it_and_the_longest_counts(run):
    async def steps(ledger):
        await configure(ledger)
        grants = [await taken(ledger) for _ in range(3)]
        for grant, seconds in zip(grants, (5, 20, 1), strict=True):
            await report(ledger, grant, "throttled", pause_s=seconds)
        denied = await refused(ledger)
        assert (denied.reason, denied.wait_s) == ("paused", pytest.approx(20, abs=0.5))
        assert (await taken(ledger, "slow")).wait_s == 0

    run(steps)


def test_a_pause_of_less_than_half_a_second_is_waited_for_in_the_slot(run):
    async def steps(ledger):
        await configure(ledger)
        await report(ledger, await taken(ledger), "throttled", pause_s=0.4)
        assert 0.2 < (await taken(ledger)).wait_s <= 0.4

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
def test_what_headers_ask_for_is_read_as_an_even_refill(error, headers, seconds):
    assert find_pause(error, headers) == seconds


@pytest.mark.parametrize(
    ("limit", "left", "reset_s", "minute"),
    [
        (60, 59, 1.0, 60),  # as OpenAI documents it
        (10_000, 9_999, 8.64, None),  # a limit of the day
        (14_400, 14_370, 179.56, None),  # and one more
        (60, 20, 40.0, 60),
        (50, 49, 2.0, None),  # rounded up to seconds: told by a later answer
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
def test_a_limit_of_a_minute_is_told_from_one_of_a_day_by_how_long_its_refill_takes(limit, left, reset_s, minute):
    assert find_minute_limit(limit, left, reset_s) == minute


def evenly(limit, left):
    """What a provider says whose bucket of a minute fills evenly."""
    return RateLimits(requests_limit=limit, requests_left=left, requests_reset_s=60 * (limit - left) / limit)


@pytest.mark.parametrize("configured", [{}, {"rpm": 6000}])
def test_a_lower_limit_that_the_provider_tells_counts_for_the_whole_fleet(run, configured):
    async def steps(ledger):
        await configure(ledger, fast={**configured, "capacity": 1000})
        await report(ledger, await taken(ledger), rate_limits=evenly(120, 119))
        starts = await schedule(ledger, [1] * 400)
        assert crowded([(at, 1) for at, _ in starts], 60.0) <= 120
        assert starts[-1][0] - starts[0][0] <= 401 * 60 / 120 / 0.96
        assert (await ledger.limiter.states(["fast"]))["fast"].rpm == 120
        assert (await taken(ledger, "slow")).wait_s == 0

    run(steps)


def test_a_higher_limit_that_the_provider_tells_does_not_loosen_what_is_configured(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 60, "tpm": 1000, "capacity": 1000})
        told = RateLimits(600, 599, 0.1, 100_000, 99_000, 0.6)
        await report(ledger, await taken(ledger), rate_limits=told)
        starts = await schedule(ledger, [20] * 150)
        assert crowded([(at, 1) for at, _ in starts], 60.0) <= 60
        assert crowded(starts, 60.0) <= 1000

    run(steps)


def test_a_limit_that_was_told_is_forgotten_two_minutes_later_unless_it_is_told_again(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        await report(ledger, await taken(ledger), rate_limits=evenly(60, 59))
        assert float(store.hget(LIMITER, "said_r_until")) == pytest.approx(time.time() * 1000 + 120_000, abs=5000)
        while isinstance(await ledger.limiter.acquire(ask()), Grant):
            pass
        assert (await refused(ledger)).reason == "rpm"
        store.hset(LIMITER, "said_r_until", 1)
        assert [(await taken(ledger)).wait_s for _ in range(20)] == [0] * 20

    run(steps)


def test_tokens_a_minute_that_the_provider_tells_are_paced_and_settled(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        told = RateLimits(tokens_limit=6000, tokens_left=5990, tokens_reset_s=0.1)
        await report(ledger, await taken(ledger), rate_limits=told)
        starts = await schedule(ledger, [100] * 150)
        assert crowded(starts, 60.0) <= 6000
        assert starts[-1][0] - starts[0][0] <= 151 * 100 * 60 / 6000 / 0.9

    run(steps)


def test_a_bucket_holds_no_more_than_the_provider_says_is_left_in_its_own(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 600, "capacity": 1000})  # 24 at once
        # Somebody else has used the same key: three are left, the 597 others come back within a minute.
        await report(ledger, await taken(ledger), rate_limits=evenly(600, 3))
        starts = [at for at, _ in await schedule(ledger, [1] * 30)]
        assert sum(1 for at in starts if at < starts[0] + 0.01) == 3
        assert starts[-1] - starts[0] == pytest.approx(27 * 60 / 577, abs=0.1)

    run(steps)


def test_what_was_granted_after_the_call_is_not_among_what_its_answer_says_is_left(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        first = await taken(ledger)
        for _ in range(4):
            await taken(ledger)
        # A window that does not fill evenly: ten are left for an hour, and four of them are on their way.
        await report(ledger, first, rate_limits=RateLimits(requests_left=10, requests_reset_s=3600))
        for _ in range(6):
            await taken(ledger)
        denied = await refused(ledger)
        assert (denied.reason, denied.wait_s) == ("rpm", pytest.approx(120, abs=5))

    run(steps)


def test_an_answer_that_comes_late_does_not_tell_what_is_left_now(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        slow, quick = await taken(ledger), await taken(ledger)
        await report(ledger, quick, rate_limits=RateLimits(requests_left=1, requests_reset_s=30))
        await report(ledger, slow, rate_limits=RateLimits(requests_left=50, requests_reset_s=30))
        await taken(ledger)
        assert (await refused(ledger)).reason == "rpm"

    run(steps)


def test_an_answer_from_before_the_server_lost_its_memory_does_not_silence_those_that_come(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        for _ in range(20):
            old = await taken(ledger)
        await ledger.store.run(("FLUSHALL",))
        await configure(ledger, fast={"capacity": 1000})
        await ledger.store.run(*ledger.limiter.renew([old]))
        new = await taken(ledger)
        assert await report(ledger, old, rate_limits=RateLimits(requests_left=0, requests_reset_s=30)) == "ok"
        await taken(ledger)
        await report(ledger, new, rate_limits=RateLimits(requests_left=1, requests_reset_s=30))
        assert (await refused(ledger)).reason == "rpm"

    run(steps)


def test_what_is_left_of_a_limit_of_the_day_is_not_overrun_and_its_limit_is_none_of_a_minute(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        await report(ledger, await taken(ledger), rate_limits=RateLimits(200, 40, 69_120))
        assert [(await taken(ledger)).wait_s for _ in range(40)] == [0] * 40
        assert (await refused(ledger)).reason == "rpm"

    run(steps)


def test_tokens_that_are_left_come_back_when_less_was_used_and_all_of_them_at_the_reset(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        told = RateLimits(tokens_left=1000, tokens_reset_s=2.4)
        await report(ledger, await taken(ledger), rate_limits=told)
        grant = await taken(ledger, tokens=900)
        assert isinstance(await ledger.limiter.acquire(ask(tokens=500), horizon=0.1), Denied)
        await report(ledger, grant, usage=Usage(input_tokens=300))
        assert (await taken(ledger, tokens=500)).wait_s == 0
        waits = await ledger.limiter.acquire(ask(tokens=900), horizon=5)
        assert isinstance(waits, Grant)
        assert 0.5 < waits.wait_s <= 2.4

    run(steps)


@pytest.mark.parametrize("told", [RateLimits(), RateLimits(60, 30, float("nan"), 60, 30, float("inf"))])
def test_headers_that_say_nothing_change_nothing(run, told):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1000})
        await report(ledger, await taken(ledger), rate_limits=told)
        assert [(await taken(ledger)).wait_s for _ in range(100)] == [0] * 100

    run(steps)


# -- breakers ------------------------------------------------------------------------------------


def test_a_breaker_opens_when_half_of_the_last_ten_attempts_failed_and_not_sooner(run):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 5, "ok")
        await fail(ledger, 4)
        assert await breaker(ledger) == "closed"
        await fail(ledger, 1)
        assert await breaker(ledger) == "open"
        denied = await refused(ledger)
        assert (denied.reason, denied.wait_s) == ("breaker", pytest.approx(5, abs=0.5))
        await taken(ledger, "slow")

    run(steps)


def test_refused_inputs_and_rate_limits_do_not_open_a_breaker(run):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 20, "neutral")
        await fail(ledger, 20, "throttled")
        await fail(ledger, 20, "cancelled")
        assert await breaker(ledger) == "closed"

    run(steps)


def test_failures_that_are_older_than_the_window_do_not_count(run):
    async def steps(ledger):
        await configure(ledger, fast={"breaker": {"window": 1}})
        await fail(ledger, 9)
        await asyncio.sleep(1.2)
        await fail(ledger, 1)
        assert await breaker(ledger) == "closed"

    run(steps)


def test_a_model_that_serves_nobody_is_left_alone_at_once_for_as_long_as_its_provider_says(run):
    async def steps(ledger):
        await configure(ledger)
        grants = [await taken(ledger) for _ in range(3)]
        await report(ledger, grants[0], "unusable", pause_s=3600, why="quota_exhausted")
        await report(ledger, grants[1], "unusable", pause_s=5)
        await report(ledger, grants[2], "ok")  # it had started before
        assert (await refused(ledger)).wait_s == pytest.approx(3600, abs=1)
        await report(ledger, await taken(ledger, "slow"), "unusable")
        assert (await refused(ledger, "slow")).wait_s == pytest.approx(60, abs=1)

    run(steps)


def test_half_open_lets_one_probe_through_whose_success_closes_and_whose_failure_doubles(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        for seconds in (10, 20):
            store.hset(LIMITER, "open_until", 1)
            assert await breaker(ledger) == "half-open"
            grants = await asyncio.gather(*(ledger.limiter.acquire(ask()) for _ in range(20)))
            probes = [grant for grant in grants if isinstance(grant, Grant)]
            assert len(probes) == 1
            assert probes[0].probe
            await report(ledger, probes[0], "fault")
            assert (await refused(ledger)).wait_s == pytest.approx(seconds, abs=0.5)
        store.hset(LIMITER, "open_until", 1)
        await report(ledger, await taken(ledger))
        assert await breaker(ledger) == "closed"
        assert not (await taken(ledger)).probe

    run(steps)


def test_a_dead_prober_does_not_block_and_one_that_lives_keeps_its_probe(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        store.hset(LIMITER, "open_until", 1)
        probe = await taken(ledger)
        store.hset(LIMITER, "probe_until", 1)
        await ledger.store.run(*ledger.limiter.renew([probe]))
        assert (await refused(ledger)).reason == "breaker"
        store.hset(LIMITER, "probe_until", 1)
        assert (await taken(ledger)).probe

    run(steps)


def test_a_probe_that_was_not_needed_after_all_leaves_the_next_one_its_place(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        store.hset(LIMITER, "open_until", 1)
        await report(ledger, await taken(ledger), "unasked")
        assert (await taken(ledger)).probe

    run(steps)


# -- money ---------------------------------------------------------------------------------------


def test_a_budget_is_booked_at_the_estimate_and_settled_with_the_truth(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 0.01})
        dear = {"tokens": 1000, "price": (6.0, 0.0)}  # $0.006
        grant = await taken(ledger, **dear)
        denied = await refused(ledger, **dear)
        assert denied.reason == "budget"
        assert 0 < denied.wait_s <= 86_400
        await report(ledger, grant, usage=Usage(input_tokens=500), cost_usd=0.003)
        await taken(ledger, **dear)
        assert (await refused(ledger, **dear)).reason == "budget"
        store.hincrby(LIMITER, "day", -1)  # what was spent was spent yesterday
        await taken(ledger, **dear)

    run(steps)


def test_what_was_not_asked_costs_nothing_and_what_was_broken_off_costs_what_was_booked(run):
    async def steps(ledger):
        await configure(ledger)
        costs = []
        for outcome in ("unasked", "fault", "cancelled"):
            await report(ledger, await taken(ledger, tokens=1000, price=(6.0, 0.0)), outcome)
            costs.append((await ledger.limiter.states(["fast"]))["fast"].spent_usd)
        assert costs == pytest.approx([0, 0, 0.006])

    run(steps)


# -- hedges --------------------------------------------------------------------------------------


def test_a_hedge_is_paid_from_what_calls_have_earned(run):
    async def steps(ledger):
        await configure(ledger, fast={"hedge": {"budget": 0.1}, "capacity": 1000}, slow={"capacity": 1})
        hedge = {"payer": "fast"}
        assert (await refused(ledger, "slow", **hedge)).reason == "hedges"
        for _ in range(25):
            await taken(ledger)
        first = await taken(ledger, "slow", **hedge)
        # A hedge that finds no place costs nothing.
        assert (await refused(ledger, "slow", **hedge)).reason == "capacity"
        await report(ledger, first, "cancelled")
        await taken(ledger, "slow", **hedge)
        await ledger.fleet.scale("slow", 9)
        assert (await refused(ledger, "slow", **hedge)).reason == "hedges"

    run(steps)


def test_a_hedge_is_no_probe(run, store):
    async def steps(ledger):
        await configure(ledger, fast={"hedge": {"budget": 0.5}})
        for _ in range(4):
            await taken(ledger)
        await fail(ledger, 10, model="slow")
        store.hset(redis_keys.limiter("slow"), "open_until", 1)
        assert (await refused(ledger, "slow", payer="fast")).reason == "breaker"

    run(steps)


# -- what admission makes of it -----------------------------------------------------------------


async def backlog(ledger, count, *, models=MODELS, bound=False):
    admitted = []
    preferences = [Preference(model, float(place)) for place, model in enumerate(models)]
    for _ in range(count):
        call = CallId(f"{next(ids)}".replace(":", ""), 0)
        admitted += await ledger.fleet.admit(call, ranked(preferences, bound=bound), priority="normal")
    return admitted


def test_nobody_is_admitted_to_a_model_whose_breaker_is_open_and_one_alone_to_a_half_open_one(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        assert {place.model for place in await backlog(ledger, 5)} == {"slow"}
        assert await backlog(ledger, 5, models=["fast"]) == []
        store.hset(LIMITER, "open_until", 1)
        assert len(await ledger.fleet.tick()) == 1
        assert await ledger.fleet.tick() == []

    run(steps)


def test_a_call_that_is_bound_to_a_closed_model_goes_to_the_others_and_to_no_other_while_it_is_only_full(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1})
        admitted = await backlog(ledger, 4, bound=True)
        assert [place.model for place in admitted] == ["fast", "fast"]
        waiting = await ledger.fleet.snapshot()
        assert (waiting.models["fast"].waiting, waiting.models["slow"].waiting) == (2, 0)
        await report(ledger, await taken(ledger), "unusable")
        assert [place.model for place in await ledger.fleet.tick()] == ["slow", "slow"]

    run(steps)


def test_no_more_is_admitted_than_may_start_soon(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 120, "capacity": 100})  # four at once, then two a second
        admitted = await backlog(ledger, 50, models=["fast"])
        assert 6 <= len(admitted) <= 9
        for _ in range(4):
            await taken(ledger)
        # Those run, and are not in the queue any more: the rate of the next two seconds is what is left.
        assert len(await ledger.fleet.tick()) <= 1

    run(steps)


def test_no_more_is_admitted_than_the_provider_says_may_start(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 100}, slow={"capacity": 100})
        await report(ledger, await taken(ledger), rate_limits=evenly(120, 119))
        assert 6 <= len(await backlog(ledger, 50, models=["fast"])) <= 9
        await report(ledger, await taken(ledger, "slow"), rate_limits=RateLimits(requests_left=5, requests_reset_s=30))
        assert len(await backlog(ledger, 50, models=["slow"])) == 5

    run(steps)


def test_a_model_that_is_held_or_has_no_money_left_is_not_admitted_to(run):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 0.001})
        await report(ledger, await taken(ledger, "slow"), "throttled", pause_s=30)
        assert await backlog(ledger, 1, models=["slow"]) == []
        assert (await refused(ledger, tokens=1000, price=(6.0, 0.0))).reason == "budget"
        assert await backlog(ledger, 1, models=["fast"]) == []

    run(steps)


def test_a_call_that_waits_anew_at_once_does_so_in_its_lane(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1})
        (place,) = await backlog(ledger, 1, models=["fast"])
        await report(ledger, await taken(ledger), "unusable")
        assert await ledger.fleet.delay(
            place.call, "fast", ranked([Preference(model, 0.0, 1.0) for model in MODELS]), priority="normal", seconds=0
        ) == [Admitted(place.call, "slow")]

    run(steps)


# -- the job's own keys --------------------------------------------------------------------------

DECISION = Decision(route="r", classifier="rules", confidence=1.0, strategy="round_robin")


async def votes(ledger, count, owner="p:0"):
    """A job with so many parts, all claimed by `owner`."""
    job = parse_job({"kind": "vote", "text": "x", "n": count, "policy": "partial", "early_stop": "off"})
    await ledger.accept([job], keep_seconds=60)
    assert await ledger.jobs.route(job.id, DECISION) == "routed"
    assert (await ledger.plan(job.id, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * count)))[0] == "ok"
    for index in range(count):
        await ledger.jobs.claim(job.id, index, owner)
    return job.id


async def book(ledger, job, index, usd, *, budget=0.01, owner="p:0"):
    return await ledger.jobs.book(job, index, owner, usd=usd, budget=budget)


def test_running_parts_book_what_they_may_cost_and_their_end_settles_it(run):
    async def steps(ledger):
        job = await votes(ledger, 4)
        assert await book(ledger, job, 0, 0.006) == ("ok", 0.0)
        word, left = await book(ledger, job, 1, 0.006)
        assert (word, left) == ("broke", pytest.approx(0.004))
        # Booked again, as a call does that looks for a place once more: it counts once.
        assert await book(ledger, job, 0, 0.006) == ("ok", 0.0)
        await ledger.jobs.finish(job, 0, "p:0", output="x", record=PartRecord(cost_usd=0.001, spent_usd=0.001))
        assert await book(ledger, job, 1, 0.006) == ("ok", 0.0)
        # What has to wait books nothing, and what a failed attempt cost is spent.
        await ledger.jobs.retry(job, 1, "p:0", PartRecord(error="no", spent_usd=0.002), counts=False)
        word, left = await book(ledger, job, 2, 0.008)
        assert (word, left) == ("broke", pytest.approx(0.007))
        assert await book(ledger, job, 2, 0.007, owner="somebody else") == ("stale", 0.0)

    run(steps)


def test_waiting_for_a_limit_is_no_attempt(run):
    async def steps(ledger):
        job = await votes(ledger, 1)
        tried = (Tried(model="fast", attempts=1, error="timed_out"),)

        async def put_back(owner, *, counts):
            await ledger.jobs.retry(job, 0, owner, PartRecord(error="no", tried=tried), counts=counts)

        await put_back("p:0", counts=False)
        assert (await ledger.jobs.claim(job, 0, "p:1")).attempt == 1
        await put_back("p:1", counts=True)
        assert (await ledger.jobs.claim(job, 0, "p:2")).attempt == 2
        await put_back("p:2", counts=False)
        claim = await ledger.jobs.claim(job, 0, "p:3")
        assert (claim.attempt, claim.tried) == (2, tried)
        await put_back("p:3", counts=True)
        (part,) = (await ledger.views.result(job)).parts
        assert (part.attempts, part.tried, part.error) == (2, tried, "no")

    run(steps)


def test_the_clock_for_retries_starts_with_the_first_attempt_not_with_waiting_for_it(run):
    async def steps(ledger):
        job = await votes(ledger, 1)
        await asyncio.sleep(0.3)
        await ledger.jobs.retry(job, 0, "p:0", PartRecord(error="no"), counts=False)
        assert (await ledger.jobs.claim(job, 0, "p:1")).trying_s < 0.2
        await asyncio.sleep(0.3)
        await ledger.jobs.retry(job, 0, "p:1", PartRecord(error="no"), counts=True)
        assert (await ledger.jobs.claim(job, 0, "p:2")).trying_s >= 0.3

    run(steps)


def test_the_result_says_who_answered_where_a_hedge_won_and_counts_it(run):
    async def steps(ledger):
        job = await votes(ledger, 1)
        record = PartRecord(model="slow", hedges=1, usage=Usage(input_tokens=9, cached_tokens=5, reasoning_tokens=2))
        await ledger.jobs.finish(job, 0, "p:0", output="x", record=record)
        (part,) = (await ledger.views.result(job)).parts
        assert (part.model, part.attempts) == ("slow", 2)
        assert (part.usage.cached_tokens, part.usage.reasoning_tokens) == (5, 2)

    run(steps)
