"""The steps that claim, retry, requeue and book a part."""

from __future__ import annotations

import pytest

from tasks.ledger import PartRecord, PartStatus
from tasks.ledger.jobs import MOST_LOST
from tests.harness import part_call
from tests.ledger_jobs import (
    DECISION,
    accepted,
    finish,
    let_pass,
    planned,
    single,
    vote_of,
)


def test_claim_of_a_finished_part_is_denied_and_the_first_output_stays(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3))
        await ledger.jobs.claim(job, 0, "one")
        assert (await finish(ledger, job, 0, "one", "first"))[0] == "more"
        assert await finish(ledger, job, 0, "two", "second") == ("final", "succeeded")
        assert await ledger.jobs.claim(job, 0, "three") == PartStatus(0, "succeeded", "fast", owner="one")
        return await ledger.views.result(job)

    assert on_ledger(steps).parts[0].output == "first"


def test_claim_that_its_owner_repeats_is_one_attempt(on_ledger):
    async def steps(ledger):
        job = await single(ledger)
        assert (await ledger.jobs.claim(job, 0, "one")).attempt == 1
        assert (await ledger.jobs.claim(job, 0, "one")).attempt == 1
        assert await ledger.jobs.claim(job, 0, "two") == PartStatus(0, "running", "fast", owner="one")
        assert await ledger.jobs.retry(job, 0, "one", PartRecord(error="429"))
        assert (await ledger.jobs.claim(job, 0, "two")).attempt == 2

    on_ledger(steps)


def test_claim_takes_a_part_from_a_dead_owner_after_its_requeue(on_ledger, store):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "one")
        assert await ledger.jobs.requeue(job, 0, "one") == "stale"
        let_pass(store, job, "0:started_at", 7, key=":parts")
        assert await ledger.jobs.requeue(job, 0, "another owner") == "stale"
        assert (await ledger.jobs.claim(job, 0, "two")).state == "running"
        assert await ledger.jobs.requeue(job, 0, "one") == "ok"
        assert (await ledger.jobs.claim(job, 0, "two")).attempt == 2
        # The first lives after all: its answer counts, its failure doesn't.
        assert await finish(ledger, job, 0, "one", error="timed out") == ("stale", "")
        assert not await ledger.jobs.retry(job, 0, "one", PartRecord(error="timed out"))
        assert await finish(ledger, job, 0, "one", "late but good") == ("ended", "succeeded")

    on_ledger(steps)


def test_retry_may_be_repeated_by_its_owner(on_ledger):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "one")
        assert await ledger.jobs.retry(job, 0, "one", PartRecord(error="429"))
        assert await ledger.jobs.retry(job, 0, "one", PartRecord(error="429"))
        assert not await ledger.jobs.retry(job, 0, "two", PartRecord(error="429"))

    on_ledger(steps)


def test_requeue_calls_a_part_poison_after_too_many_lost_workers(on_ledger, store):
    async def steps(ledger):
        job = await single(ledger)
        for lost in range(MOST_LOST):
            owner = f"worker {lost}"
            claim = await ledger.jobs.claim(job, 0, owner)
            assert claim.attempt == lost + 1
            assert await ledger.jobs.requeue(job, 0, owner) == "stale"  # it just started
            let_pass(store, job, "0:started_at", 7, key=":parts")
            assert await ledger.jobs.requeue(job, 0, "another owner") == "stale"
            last = lost == MOST_LOST - 1
            assert await ledger.jobs.requeue(job, 0, owner) == ("poison" if last else "ok")

    on_ledger(steps)


def test_call_that_is_admitted_before_it_is_routed_knows_its_model(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger)
        # The router has put it into the backlog; another's release admits it, before the router writes that it waits.
        assert await ledger.jobs.queue(job, [(0, "slow")]) == "ok"
        assert await ledger.jobs.claim(job, 0, "early") == PartStatus(0, "")
        assert await ledger.jobs.route(job, DECISION, placed="waiting") == "routed"
        claim = await ledger.jobs.claim(job, 0, "owner")
        assert (claim.part.model, claim.decision) == ("slow", DECISION)
        assert await finish(ledger, job, 0, "owner") == ("ended", "succeeded")

    on_ledger(steps)


def test_second_route_does_not_move_a_queued_call(on_ledger):
    async def steps(ledger):
        job = await single(ledger, model="fast")
        assert await ledger.jobs.route(job, DECISION, placed="waiting", model="slow") == "routed"
        claim = await ledger.jobs.claim(job, 0, "owner")
        assert claim.part.model == "fast"

    on_ledger(steps)


def test_second_route_moves_a_waiting_call(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger)
        await ledger.jobs.route(job, DECISION, placed="waiting", model="fast")
        await ledger.jobs.route(job, DECISION, placed="queued", model="slow")
        assert (await ledger.jobs.claim(job, 0, "owner")).part.model == "slow"

    on_ledger(steps)


def test_booking_of_a_part_ends_with_the_part(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3, budget_usd=1.0))

        async def book(index, usd):
            return await ledger.jobs.book(job, index, f"owner {index}", usd=usd, budget=1.0)

        for index in (0, 1):
            await ledger.jobs.claim(job, index, f"owner {index}")
        assert [await book(0, 0.6), await book(1, 0.6), await book(1, 0.4)] == [("ok", 0), ("wait", 3), ("ok", 0)]
        assert await ledger.views.spent(job) == pytest.approx(1.0)
        record = PartRecord(spent_usd=0.1)
        await ledger.settle(part_call(job, 0), "fast", "owner 0", output="x", record=record)
        assert await book(0, 0.3) == ("stale", 0)  # it is no longer its part, and books nothing
        assert await ledger.views.spent(job) == pytest.approx(0.5)

    on_ledger(steps)


@pytest.mark.parametrize("end", ["requeue", "hand back", "claim"])
def test_booking_of_a_crashed_call_ends_with_its_claim(on_ledger, store, end):
    async def steps(ledger):
        job = await planned(ledger, vote_of(2, budget_usd=1.0))
        await ledger.jobs.claim(job, 0, "one")
        assert await ledger.jobs.book(job, 0, "one", usd=0.9, budget=1.0) == ("ok", 0)
        let_pass(store, job, "0:started_at", 7, key=":parts")
        if end == "hand back":
            assert await ledger.jobs.hand_back(job, 0, "one")
        else:
            assert await ledger.jobs.requeue(job, 0, "one") == "ok"
        if end == "claim":
            # The first lives after all, and books once more.
            assert await ledger.jobs.book(job, 0, "one", usd=0.9, budget=1.0) == ("ok", 0)
            assert (await ledger.jobs.claim(job, 0, "two")).attempt == 2
        await ledger.jobs.claim(job, 1, "three")
        assert await ledger.jobs.book(job, 1, "three", usd=0.9, budget=1.0) == ("ok", 0)

    on_ledger(steps)


def test_part_whose_model_was_never_asked_has_no_attempts(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, vote_of(2, policy="partial"))
        for index, unasked in enumerate((True, False)):
            await ledger.jobs.claim(job, index, "one")
            record = PartRecord(error="no", unasked=unasked)
            await ledger.jobs.finish(job, index, "one", output=None, record=record)
        return await ledger.views.result(job)

    assert [part.attempts for part in on_ledger(steps).parts] == [0, 1]


@pytest.mark.parametrize("usd", [float("nan"), float("inf"), -1.0])
def test_finish_with_a_bad_cost_spends_what_was_booked(on_ledger, usd):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3, budget_usd=1.0))
        await ledger.jobs.claim(job, 0, "one")
        await ledger.jobs.book(job, 0, "one", usd=0.25, budget=1.0)
        await ledger.jobs.finish(job, 0, "one", output="x", record=PartRecord(spent_usd=usd))
        assert await ledger.views.spent(job) == pytest.approx(0.25)

    on_ledger(steps)
