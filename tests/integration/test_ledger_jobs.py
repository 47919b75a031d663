"""The steps that accept, route and end a job, and what is read of it."""

from __future__ import annotations

import pytest

from tasks.accept import accept
from tasks.config.config import Config
from tasks.contract.errors import BadInput
from tasks.contract.job import Job, parse_job
from tasks.contract.result import FINAL
from tasks.ledger import Claim, PartRecord, PartStatus, StagePlan, digest
from tasks.parallel.part_spec import PartSpec
from tests import redis_keys
from tests.ledger_jobs import (
    DECISION,
    KEEP,
    accepted,
    finish,
    planned,
    single,
    state_of,
    vote_of,
)
from tests.publishing import RecordingPublisher


def test_single_job_is_routed_claimed_and_finished(on_ledger, store):
    async def way(ledger):
        job = await accepted(ledger, Job(text="hello", prompt="be brief", deadline=60))
        assert await state_of(ledger, job) == "accepted"
        assert await ledger.jobs.route(job, DECISION, placed="waiting") == "routed"
        assert await state_of(ledger, job) == "waiting"
        assert await ledger.jobs.queue(job, [(0, "slow")]) == "ok"
        claim = await ledger.jobs.claim(job, 0, "owner")
        assert isinstance(claim, Claim)
        assert (claim.attempt, claim.part.model, claim.job.text, claim.job.prompt) == (1, "slow", "hello", "be brief")
        assert claim.time_left_s == pytest.approx(60, abs=1)
        assert await state_of(ledger, job) == "running"
        assert await finish(ledger, job, 0, "owner", "hi") == ("ended", "succeeded")
        return await ledger.views.result(job)

    result = on_ledger(way)
    assert (result.state, result.output, result.parts[0].attempts) == ("succeeded", "hi", 1)
    assert all(0 < store.pttl(key) <= KEEP * 1000 for key in store.keys(redis_keys.all_of_job(result.id)))


def test_single_job_fails_with_the_reason_of_its_call(on_ledger):
    async def way(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        assert await finish(ledger, job, 0, "owner", error="no such model") == ("ended", "failed")
        return await ledger.views.result(job)

    result = on_ledger(way)
    assert (result.state, result.error, result.output) == ("failed", "no such model", None)


def test_keys_of_a_job_expire_once_it_has_ended(on_ledger, store):
    async def begin(ledger):
        job = await planned(ledger, vote_of(3))
        await ledger.jobs.claim(job, 0, "owner")
        await finish(ledger, job, 0, "owner", ballot="yes")
        return job

    job = on_ledger(begin)
    assert {store.pttl(key) for key in store.keys(redis_keys.all_of_job(job))} == {-1}
    on_ledger(lambda ledger: ledger.jobs.stop(job, "cancelled"))
    assert all(0 < store.pttl(key) <= KEEP * 1000 for key in store.keys(redis_keys.all_of_job(job)))
    # What comes too late makes no key that would never be removed.
    on_ledger(lambda ledger: late(ledger, job))
    assert all(store.pttl(key) > 0 for key in store.keys(redis_keys.all_of_job(job)))


async def late(ledger, job):
    await finish(ledger, job, 0, "owner")
    await ledger.jobs.claim(job, 1, "late")
    await ledger.jobs.queue(job, [(2, "slow")])
    await ledger.jobs.retry(job, 0, "owner", PartRecord(error="problem"))


def test_steps_of_a_job_that_is_gone_write_nothing(on_ledger, store):
    async def steps(ledger):
        assert await ledger.jobs.route("gone", DECISION, placed="queued", model="fast") == "gone"
        assert await ledger.jobs.queue("gone", [(0, "fast")]) == "over"
        assert await ledger.jobs.claim("gone", 0, "owner") == PartStatus(0, "")
        assert (await ledger.plan("gone", "{}", StagePlan([PartSpec("fast")])))[0] == "gone"
        assert await ledger.jobs.requeue("gone", 0, "owner") == "gone"
        assert (await ledger.jobs.join("gone")).word == "gone"
        assert not await ledger.jobs.retry("gone", 0, "owner", PartRecord(error=""))
        assert not await ledger.jobs.conclude("gone", "succeeded")
        assert await ledger.jobs.stop("gone", "cancelled") == "gone"
        assert (await finish(ledger, "gone", 0, "owner"))[0] == "gone"
        assert await ledger.views.result("gone") is None
        assert await ledger.views.read("gone") is None
        assert await ledger.views.summaries(["gone"]) == [None]

    on_ledger(steps)
    assert store.keys(redis_keys.all_of_job("gone")) == []


@pytest.mark.parametrize("state", sorted(FINAL))
def test_final_state_is_left_by_no_step(on_ledger, state):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        await ledger.jobs.stop(job, state, "so it is")
        before = await ledger.views.result(job)
        assert await ledger.accept([Job(id=job, text="again")], keep_seconds=KEEP) == ["taken"]
        assert await ledger.jobs.route(job, DECISION, placed="waiting") == "over"
        assert (await ledger.plan(job, "{}", StagePlan([PartSpec("fast")])))[0] == "over"
        assert not await ledger.jobs.retry(job, 0, "owner", PartRecord(error="try again"))
        assert await ledger.jobs.queue(job, [(0, "slow")]) == "over"
        assert await ledger.jobs.requeue(job, 0, "owner") == "final"
        assert isinstance(await ledger.jobs.claim(job, 0, "other"), PartStatus)
        assert (await finish(ledger, job, 0, "owner"))[0] in {"over", "final"}
        assert (await ledger.jobs.join(job)).word == "done"
        assert not await ledger.jobs.conclude(job, "succeeded", output="x")
        assert await ledger.jobs.stop(job, "failed") == "final"
        after = await ledger.views.result(job)
        assert (after.state, after.error, after.ended_at, after.output) == (
            state, "so it is", before.ended_at, None,
        )  # fmt: skip

    on_ledger(steps)


def test_failure_after_a_cancellation_does_not_revive_the_job(on_ledger):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        await ledger.jobs.stop(job, "cancelled")
        assert not await ledger.jobs.retry(job, 0, "owner", PartRecord(error="429"))
        assert await state_of(ledger, job) == "cancelled"

    on_ledger(steps)


def test_summaries_have_what_the_sweeper_needs_without_a_text(on_ledger):
    async def steps(ledger):
        job = await single(ledger, priority="high", deadline=10)
        fanout = await planned(ledger, vote_of(3))
        now = await ledger.fleet.now()
        first, second = await ledger.views.summaries([job, fanout])
        assert (first.state, first.kind, first.n, first.left, first.priority) == ("routed", "single", 1, 1, "high")
        assert now + 5 < first.deadline_at <= now + 10
        assert (second.kind, second.n, second.left, second.deadline_at) == ("vote", 3, 3, None)

    on_ledger(steps)


def test_output_that_is_no_unicode_is_kept(on_ledger):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        assert await finish(ledger, job, 0, "owner", "half \ud83d") == ("ended", "succeeded")
        assert digest("half \ud83d") != digest("half \ud83e")
        return await ledger.views.result(job)

    assert on_ledger(steps).parts[0].output == "half ?"


CONFIG = Config.model_validate(
    {"models": {"fast": {"provider": "simulated"}}, "routes": {"r": {"models": ["fast"]}}, "default_route": "r"}
)


def test_idempotency_keys_are_bound_in_one_round_trip(on_ledger, store):
    async def steps(ledger):
        publisher = RecordingPublisher()

        async def submit(*requests):
            jobs = [parse_job(request) for request in requests]
            return await accept(jobs, ledger=ledger, publisher=publisher, config=CONFIG)

        one, plain, same = await submit(
            {"text": "a", "idempotency_key": "k1"}, {"text": "b"}, {"text": "a", "idempotency_key": "k1"}
        )
        assert (one.id, one.new, plain.new, same.id, same.new) == (same.id, True, True, one.id, False)
        assert publisher.routed == [one.id, plain.id]
        with pytest.raises(BadInput, match=r"^\[1\]\.idempotency_key: was used for another request"):
            await submit({"text": "c"}, {"text": "other", "idempotency_key": "k1"})
        (again,) = await submit({"text": "a", "idempotency_key": "k1"})
        assert (again.id, again.new) == (one.id, False)

    on_ledger(steps)
    assert all(store.ttl(key) > 0 for key in store.keys(redis_keys.idempotency("*")))


def test_sweeper_s_note_is_written_before_the_job_by_server_time(on_ledger, store):
    async def steps(ledger):
        soon = await accepted(ledger, Job(text="x", deadline=1))
        later = await accepted(ledger)
        return soon, later, await ledger.fleet.now()

    soon, later, now = on_ledger(steps)
    assert now < store.zscore(redis_keys.ACTIVE_JOBS, soon) <= now + 1
    assert now + 4 < store.zscore(redis_keys.ACTIVE_JOBS, later) <= now + 5
