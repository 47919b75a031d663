"""Admission on a real Valkey by the limits of models and jobs."""

from __future__ import annotations

import asyncio

import pytest

from tasks.contract.job import CallId, parse_job
from tasks.contract.result import Decision, RateLimits, Tried, Usage
from tasks.ledger import Admitted, PartRecord, StagePlan
from tasks.parallel.part_spec import PartSpec
from tasks.routing.snapshot import Preference
from tests.harness import ledger_runs, ranked
from tests.limiting import (
    LIMITER,
    MODELS,
    acquire,
    acquire_denied,
    configure,
    empty,
    evenly,
    fail,
    ids,
    release,
)


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with a ledger of its own on an empty fleet, on one event loop."""
    with ledger_runs(server.url, MODELS, empty) as runs:
        yield runs


# -- what admission makes of it ----------------------------------------------------------------------


async def backlog(ledger, count, *, models=MODELS, bound=False):
    admitted = []
    preferences = [Preference(model, float(place)) for place, model in enumerate(models)]
    for _ in range(count):
        call = CallId(f"{next(ids)}".replace(":", ""), 0)
        admitted += await ledger.fleet.admit(call, ranked(preferences, bound=bound), priority="normal")
    return admitted


def test_admission_to_an_open_breaker_is_none_to_a_half_open_one_call(run, store):
    async def steps(ledger):
        await configure(ledger)
        await fail(ledger, 10)
        assert {each.model for each in await backlog(ledger, 5)} == {"slow"}
        assert await backlog(ledger, 5, models=["fast"]) == []
        store.hset(LIMITER, "open_until", 1)
        assert len(await ledger.fleet.tick()) == 1
        assert await ledger.fleet.tick() == []

    run(steps)


def test_bound_call_takes_others_while_its_model_is_closed_not_full(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1})
        admitted = await backlog(ledger, 4, bound=True)
        assert [each.model for each in admitted] == ["fast", "fast"]
        waiting = await ledger.fleet.snapshot()
        assert (waiting.models["fast"].waiting, waiting.models["slow"].waiting) == (2, 0)
        await release(ledger, await acquire(ledger), "unusable")
        assert [each.model for each in await ledger.fleet.tick()] == ["slow", "slow"]

    run(steps)


def test_admission_is_bounded_by_what_may_start_soon(run):
    async def steps(ledger):
        await configure(ledger, fast={"rpm": 120, "capacity": 100})  # four at once, then two a second
        admitted = await backlog(ledger, 50, models=["fast"])
        assert 6 <= len(admitted) <= 9
        for _ in range(4):
            await acquire(ledger)
        # Those run, and are not in the queue any more: the rate of the next two seconds is what is left.
        assert len(await ledger.fleet.tick()) <= 1

    run(steps)


def test_admission_is_bounded_by_what_headers_say_is_left(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 100}, slow={"capacity": 100})
        await release(ledger, await acquire(ledger), rate_limits=evenly(120, 119))
        assert 6 <= len(await backlog(ledger, 50, models=["fast"])) <= 9
        headers = RateLimits(requests_left=5, requests_reset_s=30)
        await release(ledger, await acquire(ledger, "slow"), rate_limits=headers)
        assert len(await backlog(ledger, 50, models=["slow"])) == 5

    run(steps)


def test_admission_to_a_paused_or_spent_model_is_none(run):
    async def steps(ledger):
        await configure(ledger, fast={"budget_usd_per_day": 0.001})
        await release(ledger, await acquire(ledger, "slow"), "throttled", pause_s=30)
        assert await backlog(ledger, 1, models=["slow"]) == []
        await release(ledger, await acquire(ledger, tokens=100, price=(6.0, 0.0)), "cancelled")
        assert (await acquire_denied(ledger, tokens=100, price=(6.0, 0.0))).reason == "budget"
        assert await backlog(ledger, 1, models=["fast"]) == []

    run(steps)


def test_delay_of_zero_puts_a_call_into_its_waiting_list(run):
    async def steps(ledger):
        await configure(ledger, fast={"capacity": 1})
        (admitted,) = await backlog(ledger, 1, models=["fast"])
        await release(ledger, await acquire(ledger), "unusable")
        either = ranked([Preference(model, 0.0, 1.0) for model in MODELS])
        delayed = ledger.fleet.delay(admitted.call, "fast", either, priority="normal", seconds=0)
        assert await delayed == [Admitted(admitted.call, "slow")]

    run(steps)


# -- the job's own keys ------------------------------------------------------------------------------


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


def test_job_budget_is_booked_by_running_parts_and_settled_at_their_end(run):
    async def steps(ledger):
        job = await votes(ledger, 4)
        assert await book(ledger, job, 0, 0.006) == ("ok", 0.0)
        # What others have booked makes it wait; four parts have not ended.
        assert await book(ledger, job, 1, 0.006) == ("wait", 4.0)
        # Booked again, as a call does that looks for a slot again: it counts once.
        assert await book(ledger, job, 0, 0.006) == ("ok", 0.0)
        await ledger.jobs.finish(job, 0, "p:0", output="x", record=PartRecord(cost_usd=0.001, spent_usd=0.001))
        assert await book(ledger, job, 1, 0.006) == ("ok", 0.0)
        # What has to wait books nothing, and what a failed attempt cost is spent.
        await ledger.jobs.retry(job, 1, "p:0", PartRecord(error="no", spent_usd=0.002), counts=False)
        word, left = await book(ledger, job, 2, 0.008)
        assert (word, left) == ("broke", pytest.approx(0.007))
        assert await book(ledger, job, 2, 0.005) == ("ok", 0.0)
        assert await book(ledger, job, 3, 0.005) == ("wait", 3.0)
        assert await book(ledger, job, 2, 0.0) == ("ok", 0.0)
        assert await book(ledger, job, 3, 0.005) == ("ok", 0.0)
        assert await book(ledger, job, 2, 0.007, owner="another") == ("stale", 0.0)

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


def test_retry_seconds_start_with_the_first_attempt(run):
    async def steps(ledger):
        job = await votes(ledger, 1)
        await asyncio.sleep(0.3)
        await ledger.jobs.retry(job, 0, "p:0", PartRecord(error="no"), counts=False)
        assert (await ledger.jobs.claim(job, 0, "p:1")).trying_s < 0.2
        await asyncio.sleep(0.3)
        await ledger.jobs.retry(job, 0, "p:1", PartRecord(error="no"), counts=True)
        assert (await ledger.jobs.claim(job, 0, "p:2")).trying_s >= 0.3

    run(steps)


def test_result_names_the_model_of_a_hedge_that_won_and_counts_it(run):
    async def steps(ledger):
        job = await votes(ledger, 1)
        record = PartRecord(model="slow", hedges=1, usage=Usage(input_tokens=9, cached_tokens=5, reasoning_tokens=2))
        await ledger.jobs.finish(job, 0, "p:0", output="x", record=record)
        (part,) = (await ledger.views.result(job)).parts
        assert (part.model, part.attempts) == ("slow", 2)
        assert (part.usage.cached_tokens, part.usage.reasoning_tokens) == (5, 2)

    run(steps)
