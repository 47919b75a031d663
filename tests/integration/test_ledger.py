"""The job ledger on a real Valkey: every step of `move.lua`, those that are forbidden, and what holds in any order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ops.embedded.valkey import ValkeyServer
from tasks.accept import accept
from tasks.config.config import Config
from tasks.contract.errors import BadInput, PointsmanError, Unreachable
from tasks.contract.ids import CallId
from tasks.contract.job import Job
from tasks.contract.job_parsing import parse_job
from tasks.contract.result import FINAL, Decision
from tasks.ledger import WAVE, Claim, ClaimDenied, Ledger, PartRecord, PartStatus, StagePlan, Wave, digest
from tasks.ledger.jobs import MOST_JOINS, MOST_LOST
from tasks.parallel.early_stop import StopRule, is_decided
from tasks.parallel.part_spec import PartSpec
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.posterior import enough_votes
from tasks.routing.snapshot import Preference
from tests import redis_keys
from tests.harness import ledger_runs, part_call, ranked
from tests.publishing import RecordingPublisher

MODELS = ("fast", "slow")
DECISION = Decision(route="r", classifier="rules", confidence=1.0, strategy="round_robin")
KEEP = 3600


@pytest.fixture(scope="module")
def run(server):
    """Run a coroutine function with a ledger of its own, on one event loop."""

    async def view(ledger):
        return ledger

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs


def let_pass(store, job, field, seconds, *, key=""):
    """Move a time of the record into the past: what the script sees is as if `seconds` had passed."""
    name = redis_keys.job(job) + key
    store.hset(name, field, int(store.hget(name, field)) - int(seconds * 1000))


def vote_of(n, **more):
    return parse_job({"kind": "vote", "text": "yes or no?", "n": n, **more})


async def accepted(ledger, job=None, *, keep=KEEP):
    job = job or Job(text="hello")
    assert await ledger.accept([job], keep_seconds=keep) == ["accepted"]
    return job.id


async def single(ledger, *, model="fast", **more):
    job = await accepted(ledger, Job(text="hello", **more))
    assert await ledger.jobs.route(job, DECISION, placed="queued", model=model) == "routed"
    return job


async def planned(ledger, job, parts=None):
    job_id = await accepted(ledger, job)
    assert await ledger.jobs.route(job_id, DECISION) == "routed"
    plans = [PartSpec("fast", f"part {index}") for index in range(parts or job.n)]
    stopping = StopRule(exact=True) if job.kind == "vote" else None
    assert (await ledger.plan(job_id, DECISION.model_dump_json(), StagePlan(plans, stopping=stopping)))[0] == "ok"
    return job_id


async def finish(ledger, job, index, owner, output="answer", *, error=None, ballot=""):
    record = PartRecord(error=error, ballot=digest(ballot) if ballot else "")
    output = None if error else output
    reply, _ = await ledger.settle(part_call(job, index), "fast", owner, output=output, record=record)
    return reply


async def state_of(ledger, job):
    return (await ledger.views.states([job]))[0]


# -- the way of a single job ---------------------------------------------------------------------


def test_a_single_job_s_way(run, store):
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

    result = run(way)
    assert (result.state, result.output, result.parts[0].attempts) == ("succeeded", "hi", 1)
    assert all(0 < store.pttl(key) <= KEEP * 1000 for key in store.keys(redis_keys.all_of_job(result.id)))


def test_a_failed_call_fails_a_single_job_with_its_reason(run):
    async def way(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        assert await finish(ledger, job, 0, "owner", error="no such model") == ("ended", "failed")
        return await ledger.views.result(job)

    result = run(way)
    assert (result.state, result.error, result.output) == ("failed", "no such model", None)


def test_keys_live_without_end_until_the_job_has_ended(run, store):
    async def begin(ledger):
        job = await planned(ledger, vote_of(3))
        await ledger.jobs.claim(job, 0, "owner")
        await finish(ledger, job, 0, "owner", ballot="yes")
        return job

    job = run(begin)
    assert {store.pttl(key) for key in store.keys(redis_keys.all_of_job(job))} == {-1}
    run(lambda ledger: ledger.jobs.stop(job, "cancelled"))
    assert all(0 < store.pttl(key) <= KEEP * 1000 for key in store.keys(redis_keys.all_of_job(job)))
    # What comes too late makes no key that nobody would ever remove.
    run(lambda ledger: late(ledger, job))
    assert all(store.pttl(key) > 0 for key in store.keys(redis_keys.all_of_job(job)))


async def late(ledger, job):
    await finish(ledger, job, 0, "owner")
    await ledger.jobs.claim(job, 1, "late")
    await ledger.jobs.queue(job, [(2, "slow")])
    await ledger.jobs.retry(job, 0, "owner", PartRecord(error="problem"))


def test_steps_on_a_job_that_is_gone_leave_nothing_behind(run, store):
    async def steps(ledger):
        assert await ledger.jobs.route("gone", DECISION, placed="queued", model="fast") == "gone"
        assert await ledger.jobs.queue("gone", [(0, "fast")]) == "over"
        assert await ledger.jobs.claim("gone", 0, "owner") == ClaimDenied("gone")
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

    run(steps)
    assert store.keys(redis_keys.all_of_job("gone")) == []


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_is_left_by_no_step(run, state):
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
        assert (await ledger.jobs.claim(job, 0, "other")).word == "done"
        assert (await finish(ledger, job, 0, "owner"))[0] in {"over", "final"}
        assert (await ledger.jobs.join(job)).word == "done"
        assert not await ledger.jobs.conclude(job, "succeeded", output="x")
        assert await ledger.jobs.stop(job, "failed") == "final"
        after = await ledger.views.result(job)
        assert (after.state, after.error, after.ended_at, after.output) == (
            state, "so it is", before.ended_at, None,
        )  # fmt: skip

    run(steps)


def test_a_call_that_fails_after_its_job_was_cancelled_does_not_bring_it_back(run):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        await ledger.jobs.stop(job, "cancelled")
        assert not await ledger.jobs.retry(job, 0, "owner", PartRecord(error="429"))
        assert await state_of(ledger, job) == "cancelled"

    run(steps)


# -- claims --------------------------------------------------------------------------------------


def test_the_first_writer_wins_and_a_written_part_is_never_given_out_again(run):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3))
        await ledger.jobs.claim(job, 0, "one")
        assert (await finish(ledger, job, 0, "one", "first"))[0] == "more"
        assert await finish(ledger, job, 0, "two", "second") == ("final", "succeeded")
        assert await ledger.jobs.claim(job, 0, "three") == ClaimDenied("done", state="succeeded")
        return await ledger.views.result(job)

    assert run(steps).parts[0].output == "first"


def test_attempts_are_counted_and_a_claim_repeated_by_its_owner_is_one(run):
    async def steps(ledger):
        job = await single(ledger)
        assert (await ledger.jobs.claim(job, 0, "one")).attempt == 1
        assert (await ledger.jobs.claim(job, 0, "one")).attempt == 1
        assert await ledger.jobs.claim(job, 0, "two") == ClaimDenied("busy", owner="one")
        assert await ledger.jobs.retry(job, 0, "one", PartRecord(error="429"))
        assert (await ledger.jobs.claim(job, 0, "two")).attempt == 2

    run(steps)


def test_a_part_is_taken_only_from_an_owner_that_is_dead_and_did_not_just_start(run, store):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "one")
        assert (await ledger.jobs.claim(job, 0, "two", dead="one")).word == "busy"
        let_pass(store, job, "0:started_at", 7, key=":parts")
        assert (await ledger.jobs.claim(job, 0, "two", dead="somebody else")).word == "busy"
        assert (await ledger.jobs.claim(job, 0, "two")).word == "busy"
        assert (await ledger.jobs.claim(job, 0, "two", dead="one")).attempt == 2
        # The first lives after all: its answer counts, its failure doesn't.
        assert await finish(ledger, job, 0, "one", error="timed out") == ("stale", "")
        assert not await ledger.jobs.retry(job, 0, "one", PartRecord(error="timed out"))
        assert await finish(ledger, job, 0, "one", "late but good") == ("ended", "succeeded")

    run(steps)


def test_a_retry_whose_reply_was_lost_is_told_again_that_it_holds(run):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "one")
        assert await ledger.jobs.retry(job, 0, "one", PartRecord(error="429"))
        assert await ledger.jobs.retry(job, 0, "one", PartRecord(error="429"))
        assert not await ledger.jobs.retry(job, 0, "two", PartRecord(error="429"))

    run(steps)


def test_a_part_that_lost_its_worker_is_queued_again_until_it_is_poison(run, store):
    async def steps(ledger):
        job = await single(ledger)
        for lost in range(MOST_LOST):
            owner = f"worker {lost}"
            claim = await ledger.jobs.claim(job, 0, owner)
            assert claim.attempt == lost + 1
            assert await ledger.jobs.requeue(job, 0, owner) == "stale"  # it just started
            let_pass(store, job, "0:started_at", 7, key=":parts")
            assert await ledger.jobs.requeue(job, 0, "somebody else") == "stale"
            last = lost == MOST_LOST - 1
            assert await ledger.jobs.requeue(job, 0, owner) == ("poison" if last else "ok")

    run(steps)


# -- races of router and feeder --------------------------------------------------------------------


def test_a_call_that_the_feeder_admits_before_its_router_has_written_knows_its_model(run):
    async def steps(ledger):
        job = await accepted(ledger)
        # The router has put it into the backlog; another's release admits it, before the router writes that it waits.
        assert await ledger.jobs.queue(job, [(0, "slow")]) == "ok"
        assert await ledger.jobs.claim(job, 0, "early") == ClaimDenied("gone")
        assert await ledger.jobs.route(job, DECISION, placed="waiting") == "routed"
        claim = await ledger.jobs.claim(job, 0, "owner")
        assert (claim.part.model, claim.decision) == ("slow", DECISION)
        assert await finish(ledger, job, 0, "owner") == ("ended", "succeeded")

    run(steps)


def test_a_second_router_does_not_move_a_call_that_stands_in_a_queue(run):
    async def steps(ledger):
        job = await single(ledger, model="fast")
        assert await ledger.jobs.route(job, DECISION, placed="waiting", model="slow") == "routed"
        claim = await ledger.jobs.claim(job, 0, "owner")
        assert claim.part.model == "fast"

    run(steps)


def test_a_call_that_waits_goes_where_it_is_routed_anew(run):
    async def steps(ledger):
        job = await accepted(ledger)
        await ledger.jobs.route(job, DECISION, placed="waiting", model="fast")
        await ledger.jobs.route(job, DECISION, placed="queued", model="slow")
        assert (await ledger.jobs.claim(job, 0, "owner")).model == "slow"

    run(steps)


# -- fan-outs ------------------------------------------------------------------------------------


def test_the_parts_of_a_fan_out_are_planned_once(run):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3))
        assert (await ledger.plan(job, "{}", StagePlan([PartSpec("slow")] * 5)))[0] == "planned"
        assert len((await ledger.views.result(job)).parts) == 3

    run(steps)


@pytest.mark.parametrize("parts", [10_000, 100_000])
def test_a_large_fan_out_is_planned_and_read_again(run, parts):
    async def steps(ledger):
        job = await accepted(ledger, parse_job({"kind": "sections", "items": ["x"]}))
        await ledger.jobs.route(job, DECISION)
        text = "x" * 100
        plans = [PartSpec("fast", f"item {index}", f"{index} {text}") for index in range(parts)]
        assert (await ledger.plan(job, DECISION.model_dump_json(), StagePlan(plans)))[0] == "ok"
        claim = await ledger.jobs.claim(job, parts - 1, "owner")
        assert claim.part.text == f"{parts - 1} {text}"
        states = Counter(part.state for part in await ledger.views.statuses(job, 0, parts))
        assert states == {"queued": WAVE, "waiting": parts - WAVE - 1, "running": 1}
        assert await ledger.fleet.find([part_call(job, index) for index in (0, WAVE - 1, WAVE)]) == [
            "part", "part", "nowhere",
        ]  # fmt: skip
        # All keys go, whatever the other tests see.
        await ledger.jobs.stop(job, "cancelled")
        await ledger.fleet.withdraw([part_call(job, index) for index in range(parts)])
        assert await ledger.fleet.find([part_call(job, 0)]) == ["nowhere"]

    run(steps)


def test_a_later_wave_is_sent_once_and_never_for_a_job_that_has_ended(run):
    async def steps(ledger):
        plans = parse_job({"kind": "sections", "items": ["x"] * (WAVE + 2)})
        job = await planned(ledger, plans, WAVE + 2)
        sent = [PartStatus(index, "queued", "fast", "") for index in (WAVE, WAVE + 1)]
        assert await ledger.send_wave(job, 1) == (Wave(1, WAVE, 2), sent)
        assert await ledger.send_wave(job, 1) is None
        assert [part.state for part in await ledger.views.statuses(job, WAVE, 2)] == ["queued", "queued"]
        ended = await planned(ledger, plans.model_copy(update={"id": Job(text="x").id}), WAVE + 2)
        await ledger.jobs.stop(ended, "cancelled")
        assert await ledger.send_wave(ended, 1) is None

    run(steps)


def test_under_the_policy_fail_one_failure_spoils_the_job_at_once(run):
    async def steps(ledger):
        job = await planned(ledger, parse_job({"kind": "sections", "items": ["a", "b", "c"]}), 3)
        await ledger.jobs.claim(job, 1, "owner")
        assert await finish(ledger, job, 1, "owner", error="refused") == ("complete", "spoilt")
        assert (await ledger.jobs.join(job)).word == "go"
        assert (await ledger.jobs.claim(job, 0, "late")) == ClaimDenied("done", state="skipped")

    run(steps)


def test_under_the_policy_partial_all_parts_are_waited_for(run):
    async def steps(ledger):
        job = await planned(ledger, parse_job({"kind": "sections", "items": ["a", "b"], "policy": "partial"}), 2)
        await ledger.jobs.claim(job, 0, "one")
        assert await finish(ledger, job, 0, "one", error="refused") == ("more", "")
        assert (await ledger.jobs.join(job)).word == "wait"
        await ledger.jobs.claim(job, 1, "two")
        assert await finish(ledger, job, 1, "two") == ("complete", "all")

    run(steps)


def test_a_decided_vote_goes_on_until_its_quorum_is_there(run):
    async def steps(ledger):
        job = await planned(ledger, vote_of(5, policy="quorum", quorum=4))
        words = []
        for index in range(4):
            await ledger.jobs.claim(job, index, f"owner {index}")
            words.append(await finish(ledger, job, index, f"owner {index}", ballot="yes"))
        # Three of five can't be caught, but four must succeed.
        assert words == [("more", ""), ("more", ""), ("more", ""), ("complete", "decided")]

    run(steps)


def test_one_join_of_fifty_goes_and_concludes_once(run):
    async def steps(ledger):
        job = await planned(ledger, vote_of(1))
        await ledger.jobs.claim(job, 0, "owner")
        await finish(ledger, job, 0, "owner")
        words = await asyncio.gather(*(ledger.jobs.join(job) for _ in range(50)))
        assert Counter(gate.word for gate in words) == {"go": 1, "busy": 49}
        written = await asyncio.gather(*(ledger.jobs.conclude(job, "succeeded", output=f"{n}") for n in range(50)))
        assert Counter(written) == {True: 1, False: 49}
        assert (await ledger.jobs.join(job)).word == "done"

    run(steps)


def test_a_join_that_never_ends_is_given_to_another_and_is_poison_in_the_end(run, store):
    async def steps(ledger):
        job = await planned(ledger, vote_of(1))
        assert (await ledger.jobs.join(job)).word == "wait"
        assert not await ledger.jobs.conclude(job, "succeeded")
        await ledger.jobs.claim(job, 0, "owner")
        await finish(ledger, job, 0, "owner")
        for _ in range(MOST_JOINS):
            assert (await ledger.jobs.join(job)).word == "go"
            assert (await ledger.jobs.join(job)).word == "busy"
            let_pass(store, job, "joining_at", 31)
        assert (await ledger.jobs.join(job)).word == "poison"

    run(steps)


# -- stages, waves, parts that are jobs --------------------------------------------------------------


async def ended(ledger, job, *indices, error=None):
    """These parts run and end."""
    for index in indices:
        await ledger.jobs.claim(job, index, f"owner {index}")
        word = await finish(ledger, job, index, f"owner {index}", f"answer {index}", error=error)
    return word


def test_a_job_goes_through_its_stages_and_each_is_joined_when_its_own_parts_are_there(run):
    async def steps(ledger):
        job = await accepted(ledger, parse_job({"kind": "sections", "text": "x", "split": "plan"}))
        await ledger.jobs.route(job, DECISION)
        plan = DECISION.model_dump_json()
        assert (await ledger.plan(job, plan, StagePlan([PartSpec("fast")], role="plan")))[1] == Wave(0, 0, 1)
        assert (await ledger.jobs.join(job)).word == "wait"
        assert await ended(ledger, job, 0) == ("complete", "all")
        assert (await ledger.jobs.join(job)).word == "go"
        sections = [PartSpec("fast", "a", "A"), PartSpec("fast", "b", "B")]
        assert (await ledger.plan(job, plan, StagePlan(sections, first=1)))[1] == Wave(1, 1, 2)
        assert await state_of(ledger, job) == "running"
        assert (await ledger.plan(job, plan, StagePlan(sections, first=1)))[0] == "planned"
        claim = await ledger.jobs.claim(job, 2, "owner 2")
        # The plan is no section: they are counted without it.
        assert (claim.first, claim.total, claim.part.text) == (1, 2, "B")
        assert await ended(ledger, job, 1, 2) == ("complete", "all")
        for first in (3, 5):
            assert (await ledger.jobs.join(job)).word == "go"
            asked = [PartSpec("slow", "ask", "Which?")] * 2
            assert (await ledger.plan(job, "", StagePlan(asked, first=first, role="join")))[1].first == first
            # Under the policy fail, too: what becomes of a question is for the join to say.
            assert await ended(ledger, job, first, error="refused") == ("more", "")
            assert await ended(ledger, job, first + 1) == ("complete", "all")
        assert (await ledger.jobs.join(job)).word == "go"
        assert await ledger.jobs.conclude(job, "succeeded", output="joined")
        return await ledger.views.progress(job), await ledger.views.result(job)

    progress, result = run(steps)
    assert [part.role for part in result.parts] == ["plan", "", "", "join", "join", "join", "join"]
    assert (result.parts_total, result.parts_failed, result.output) == (7, 0, "joined")
    assert (progress.base, progress.starts) == (1, (0, 1, 3, 5))
    assert [(stage.role, stage.first, stage.count) for stage in progress.stages] == [
        ("plan", 0, 1), ("", 1, 2), ("join", 3, 2), ("join", 5, 2),
    ]  # fmt: skip


def test_waves_of_any_size_cover_the_parts_once_and_only_when_the_one_before_has_ended(run):
    async def steps(ledger):
        job = await accepted(ledger, vote_of(9, policy="partial"))
        await ledger.jobs.route(job, DECISION)
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * 9, wave=2))
        done = 0
        for number, size in ((1, 1), (2, 4), (3, 100)):
            sent_before = (await ledger.views.progress(job)).sent
            await ended(ledger, job, *range(done, sent_before))
            done = sent_before
            gate = await ledger.jobs.join(job)
            assert (gate.word, gate.wave_ended, gate.waves) == ("wait", True, number)
            wave, sent = await ledger.send_wave(job, number, size=size)
            assert (wave.first, [part.index for part in sent]) == (done, list(range(done, min(done + size, 9))))
            assert await ledger.send_wave(job, number, size=size) is None
            assert not (await ledger.jobs.join(job)).wave_ended
        assert await ended(ledger, job, *range(done, 9)) == ("complete", "all")
        assert await ledger.send_wave(job, 4, size=1) is None
        assert (await ledger.views.progress(job)).starts == (0, 2, 3, 7)

    run(steps)


def test_a_vote_may_be_decided_between_its_waves_but_not_while_a_take_is_under_way(run):
    async def steps(ledger):
        job = await accepted(ledger, vote_of(9))
        await ledger.jobs.route(job, DECISION)
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * 9, wave=2))
        await ended(ledger, job, 0)
        assert (await ledger.jobs.join(job, decided=True)).word == "wait"
        await ended(ledger, job, 1)
        assert (await ledger.jobs.join(job)).word == "wait"
        assert (await ledger.jobs.join(job, decided=True)).word == "go"
        assert await ledger.send_wave(job, 1) is None

    run(steps)


def test_no_wave_is_sent_of_a_job_that_is_not_planned_yet(run):
    async def steps(ledger):
        job = await accepted(ledger, vote_of(3))
        await ledger.jobs.route(job, DECISION)
        assert await ledger.send_wave(job, 0) is None
        assert await ledger.send_wave(job, 1) is None

    run(steps)


def test_parts_that_are_written_in_several_steps_are_there_once_they_are_planned(run):
    async def steps(ledger):
        job = await accepted(ledger, parse_job({"kind": "sections", "items": ["x"]}))
        await ledger.jobs.route(job, DECISION)
        plans = [PartSpec("fast", "", f"{index}") for index in range(2500)]
        *written, last = ledger.jobs.plan(job, DECISION.model_dump_json(), StagePlan(plans, wave=10))
        assert len(written) == 3
        for command in written:
            await command
            # Its router may die here: nothing can be ended, joined or sent, and nobody sees a part.
            assert (await ledger.jobs.join(job)).word == "wait"
            assert await ledger.send_wave(job, 0) is None
            assert (await finish(ledger, job, 0, "owner"))[0] == "gone"
            result = await ledger.views.result(job)
            assert (result.parts_total, result.parts) == (0, ())
        assert (await last)[0] == "ok"
        # Another router that planned the same at that time comes too late.
        others = [PartSpec("slow", "", "other")] * 2500
        replies = await ledger.store.run(*ledger.jobs.plan(job, "{}", StagePlan(others, wave=10)))
        assert set(replies) == {("planned", None)}
        claim = await ledger.jobs.claim(job, 2499, "owner")
        assert (claim.part.text, claim.part.model, claim.total) == ("2499", "fast", 2500)

    run(steps)


def test_a_part_that_is_a_job_runs_without_a_lease_and_is_ended_by_that_job_alone(run, store):
    async def steps(ledger):
        job = await accepted(
            ledger, parse_job({"kind": "sections", "items": ["a", "b", "c", "d"], "policy": "partial"})
        )
        await ledger.jobs.route(job, DECISION)
        plans = [PartSpec("fast"), *(PartSpec("", job=f"child {index}") for index in (1, 2, 3))]
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan(plans, wave=3))
        assert await ledger.views.statuses(job, 0, 4) == [
            PartStatus(0, "queued", "fast"),
            PartStatus(1, "running", "", "child 1", "child 1"),
            PartStatus(2, "running", "", "child 2", "child 2"),
            PartStatus(3, "waiting", "", "child 3", "child 3"),
        ]
        assert await ledger.fleet.find([CallId(job, index, 0) for index in range(3)]) == ["part", "nowhere", "nowhere"]
        assert store.keys(redis_keys.claims("", kind="part")) == []
        # What was not sent names no job: there is none yet.
        assert [part.job for part in (await ledger.views.result(job)).parts] == [None, "child 1", "child 2", None]
        assert await ledger.views.children(job) == ["child 1", "child 2", "child 3"]
        (summary,) = await ledger.views.summaries([job])
        assert summary.has_children

        async def end(index, child, output, **how):
            return await ledger.jobs.finish(job, index, child, output=output, record=PartRecord(**how))

        assert await end(1, "child 2", None) == ("stale", "")
        assert await end(1, "child 1", "one") == ("more", "")
        assert await end(1, "child 1", "again") == ("final", "succeeded")
        assert await end(2, "child 2", None, skipped=True, never_created=True) == ("more", "")
        await ended(ledger, job, 0)
        assert (await ledger.jobs.join(job)).wave_ended
        assert (await ledger.send_wave(job, 1))[1] == [PartStatus(3, "running", "", "child 3", "child 3")]
        assert await end(3, "child 3", None) == ("complete", "all")
        return await ledger.views.result(job)

    result = run(steps)
    assert [part.state for part in result.parts] == ["succeeded", "succeeded", "skipped", "failed"]
    assert [part.job for part in result.parts] == [None, "child 1", None, "child 3"]
    assert result.parts_failed == 1


def test_a_part_that_failed_before_it_began_is_counted_when_the_job_is_planned(run):
    async def steps(ledger, policy):
        job = await accepted(ledger, parse_job({"kind": "sections", "items": ["a", "b"], "policy": policy}))
        await ledger.jobs.route(job, DECISION)
        plans = [PartSpec("fast"), PartSpec("", error="too long")]
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan(plans))
        gate = await ledger.jobs.join(job)
        result = await ledger.views.result(job)
        return gate.word, [(part.state, part.error) for part in result.parts], result.parts_failed

    parts = [("queued", None), ("failed", "too long")]
    assert run(lambda ledger: steps(ledger, "partial")) == ("wait", parts, 1)
    assert run(lambda ledger: steps(ledger, "fail")) == ("go", parts, 1)


def test_what_a_part_has_booked_is_given_back_when_it_ends_and_never_booked_after(run):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3, budget_usd=1.0))

        async def book(index, usd):
            return (await ledger.jobs.book(job, index, f"owner {index}", usd=usd, budget=1.0)).word

        for index in (0, 1):
            await ledger.jobs.claim(job, index, f"owner {index}")
        assert [await book(0, 0.6), await book(1, 0.6), await book(1, 0.4)] == ["ok", "broke", "ok"]
        assert await ledger.views.spent(job) == pytest.approx(1.0)
        record = PartRecord(spent_usd=0.1)
        await ledger.settle(part_call(job, 0), "fast", "owner 0", output="x", record=record)
        assert await book(0, 0.3) == "stale"
        assert await ledger.views.spent(job) == pytest.approx(0.5)

    run(steps)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ballots=st.lists(st.sampled_from(["yes", "no", "perhaps", ""]), min_size=2, max_size=12),
    rule=st.sampled_from(["exact", "beta", "both", "flags", "weighted"]),
    k=st.integers(1, 12),
    weights=st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.75]), min_size=12, max_size=12),
)
@example(ballots=["", "no", "no"], rule="flags", k=3, weights=[1.0] * 12)
@example(ballots=["yes", "no", "yes", "yes"], rule="beta", k=1, weights=[1.0] * 12)
def test_the_script_ends_a_vote_exactly_when_the_rule_in_python_does(run, ballots, rule, k, weights):
    n = len(ballots)
    enough = enough_votes(n, 0.9)
    stopping = {
        "exact": StopRule(exact=True),
        "beta": StopRule(exact=False, enough=enough),
        "both": StopRule(exact=True, enough=enough),
        "flags": StopRule(exact=True, flag="yes", k=min(k, n)),
        "weighted": StopRule(exact=True, heaviest=max(weights)),
    }[rule]

    async def steps(ledger):
        job = await accepted(ledger, vote_of(n, policy="partial"))
        await ledger.jobs.route(job, DECISION)
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * n, stopping=stopping))
        tally: dict[str, float] = {}
        for index, ballot in enumerate(ballots):
            weight = weights[index] if rule == "weighted" else 1.0
            await ledger.jobs.claim(job, index, "owner")
            # Who casts no ballot has failed, or said nothing.
            record = PartRecord(error="failed", ballot=digest(ballot) if ballot else "", weight=weight)
            outcome, _ = await ledger.settle(
                part_call(job, index), "fast", "owner", output=ballot or None, record=record
            )
            if ballot:
                tally[ballot] = tally.get(ballot, 0.0) + weight
            left = n - index - 1
            expected = is_decided(stopping, tally, left)
            assert (outcome.word == "complete") == expected, (ballots[: index + 1], left)
            assert outcome.detail == ("all" if not left else "decided" if expected else "")
            assert await ledger.views.tally(job) == pytest.approx({digest(name): what for name, what in tally.items()})
            if expected:
                return

    run(steps)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.sampled_from(["yes", "no", "perhaps"]), min_size=1, max_size=9), order=st.randoms())
def test_a_vote_that_is_decided_early_has_the_winner_of_the_full_count(run, answers, order):
    async def steps(ledger):
        job = await planned(ledger, vote_of(len(answers)))
        places = list(range(len(answers)))
        order.shuffle(places)
        counts: Counter[str] = Counter()
        for done, index in enumerate(places, start=1):
            await ledger.jobs.claim(job, index, f"owner {index}")
            word = await finish(ledger, job, index, f"owner {index}", answers[index], ballot=answers[index])
            counts[answers[index]] += 1
            left = len(answers) - done
            assert (word[0] == "complete") == is_decided(StopRule(exact=True), counts, left)
            if word[0] == "complete":
                early = count([Vote(place, answers[place], answers[place]) for place in sorted(places[:done])])
                full = count([Vote(place, answer, answer) for place, answer in enumerate(answers)])
                assert early.winner.ballot == full.winner.ballot
                return

    run(steps)


# -- in any order ---------------------------------------------------------------------------------


class Steps(RuleBasedStateMachine):
    """Random steps on one job; `url` and `store` are of the server."""

    url: str
    store: redis.Redis

    kinds = st.sampled_from(["single", "partial", "fail", "vote", "nested"])
    indexes = st.integers(0, 4)
    owners = st.sampled_from(["one", "two", "three"])

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledger = self.runner.run(self._open())
        self.channel = self.store.pubsub(ignore_subscribe_messages=True)
        self.job = Job(text="x").id
        self.kind = None
        self.finals = 0
        self.ended_as = None
        self.written = {}

    async def _open(self):
        return Ledger(self.url, MODELS)

    def teardown(self):
        self.runner.run(self.ledger.close())
        self.runner.close()
        self.channel.close()

    def do(self, awaitable):
        async def wait():
            return await awaitable

        return self.runner.run(wait())

    @precondition(lambda self: self.kind is None)
    @rule(kind=kinds)
    def accept(self, kind):
        self.kind = kind
        shapes: dict[str, dict[str, Any]] = {
            "single": {"text": "x"},
            "vote": {"kind": "vote", "text": "x", "n": 3, "policy": "partial"},
            "fail": {"kind": "sections", "items": ["a", "b", "c"]},
            "partial": {"kind": "sections", "items": ["a", "b", "c"], "policy": "partial"},
            "nested": {"kind": "sections", "items": ["a", "b", "c"], "policy": "partial"},
        }
        self.channel.subscribe(redis_keys.job_events(self.job))
        self.channel.get_message(timeout=5)
        job = parse_job({"id": self.job, **shapes[kind]})
        self.do(self.ledger.jobs.accept(job, keep_seconds=KEEP))

    @precondition(lambda self: self.kind is not None)
    @rule(placed=st.sampled_from(["queued", "waiting"]), model=st.sampled_from(MODELS))
    def route(self, placed, model):
        if self.kind == "single":
            self.do(self.ledger.jobs.route(self.job, DECISION, placed=placed, model=model))
        else:
            self.do(self.ledger.jobs.route(self.job, DECISION))

    @precondition(lambda self: self.kind not in {None, "single"})
    @rule()
    def plan(self):
        stopping = StopRule(exact=True) if self.kind == "vote" else None
        plans = [PartSpec("fast")] * 3
        if self.kind == "nested":
            # Each is ended by whoever has the name of its job, and claimed by nobody.
            plans = [PartSpec("", job=job) for job in ("one", "two", "three")]
        commands = self.ledger.jobs.plan(
            self.job, DECISION.model_dump_json(), StagePlan(plans, wave=2, stopping=stopping)
        )
        self.do(self.ledger.store.run(*commands))

    @precondition(lambda self: self.kind not in {None, "single"})
    @rule(wave=st.integers(0, 2), size=st.integers(1, 3))
    def send(self, wave, size):
        self.do(self.ledger.jobs.send(self.job, wave, size=size))

    @precondition(lambda self: self.kind not in {None, "single"})
    @rule()
    def ask(self):
        """Plan what a join asks, which has all its parts."""
        progress = self.do(self.ledger.views.progress(self.job))
        if self.do(state_of(self.ledger, self.job)) == "joining" and progress.left == 0:
            plans, first = [PartSpec("fast")] * 2, progress.n
            commands = self.ledger.jobs.plan(self.job, "", StagePlan(plans, first=first, role="join", wave=WAVE))
            self.do(self.ledger.store.run(*commands))

    @precondition(lambda self: self.kind is not None)
    @rule(index=indexes, model=st.sampled_from(MODELS))
    def queue(self, index, model):
        self.do(self.ledger.jobs.queue(self.job, [(index if self.parts > 1 else 0, model)]))

    @precondition(lambda self: self.kind not in {None, "nested"})
    @rule(index=indexes, owner=owners, dead=st.sampled_from(["", "one", "two"]))
    def claim(self, index, owner, dead):
        self._age(index)
        self.do(self.ledger.jobs.claim(self.job, index if self.parts > 1 else 0, owner, dead=dead))

    @precondition(lambda self: self.kind is not None)
    @rule(index=indexes, owner=owners, output=st.sampled_from(["yes", "no", None]))
    def finish(self, index, owner, output):
        index = index if self.parts > 1 else 0
        word, _ = self.do(
            finish(self.ledger, self.job, index, owner, output, error=None if output else "failed",
                   ballot=output if output and self.kind == "vote" else "")
        )  # fmt: skip
        if output and word in {"ended", "more", "complete"}:
            assert index not in self.written
            self.written[index] = output

    @precondition(lambda self: self.kind not in {None, "single"})
    @rule(output=st.sampled_from(["yes", None]))
    def end_all(self, output):
        for index, owner in enumerate(("one", "two", "three", "one", "two")):
            if self.kind != "nested" or index > 2:
                self.do(self.ledger.jobs.claim(self.job, index, owner))
            self.finish(index, owner, output)

    @precondition(lambda self: self.kind is not None)
    @rule(index=indexes, owner=owners)
    def retry(self, index, owner):
        self.do(self.ledger.jobs.retry(self.job, index if self.parts > 1 else 0, owner, PartRecord(error="429")))

    @precondition(lambda self: self.kind not in {None, "nested"})
    @rule(index=indexes, owner=owners)
    def requeue(self, index, owner):
        self._age(index)
        self.do(self.ledger.jobs.requeue(self.job, index if self.parts > 1 else 0, owner))

    @precondition(lambda self: self.kind is not None)
    @rule()
    def join(self):
        self.do(self.ledger.jobs.join(self.job))

    @precondition(lambda self: self.kind is not None)
    @rule(state=st.sampled_from(["succeeded", "failed"]))
    def conclude(self, state):
        self.do(self.ledger.jobs.conclude(self.job, state, output="joined"))

    @precondition(lambda self: self.kind is not None)
    @rule(state=st.sampled_from(["cancelled", "expired"]), really=st.integers(0, 5))
    def stop(self, state, really):
        if really == 0:  # seldom, or nothing else would ever come to its end
            self.do(self.ledger.jobs.stop(self.job, state))

    @property
    def parts(self):
        return 1 if self.kind == "single" else 3

    def _age(self, index):
        key, field = redis_keys.parts(self.job), f"{index}:started_at"
        if self.store.hexists(key, field):
            self.store.hset(key, field, int(self.store.hget(key, field) or 0) - 10_000)

    @invariant()
    def the_job_ended_at_most_once_and_stays_ended(self):
        state = self.store.hget(redis_keys.job(self.job), "state")
        # The announcement may come a moment after the reply to the step that made it.
        while self.kind and (message := self.channel.get_message(timeout=5 * (self.finals < (state in FINAL)))):
            self.finals += message["data"] in FINAL
        assert self.finals == (state in FINAL)
        if self.ended_as is not None:
            assert state == self.ended_as
        self.ended_as = state if state in FINAL else None

    @invariant()
    def the_counts_agree_with_the_parts(self):
        record = self.store.hgetall(redis_keys.job(self.job))
        if "n" not in record:
            return
        result = self.do(self.ledger.views.result(self.job))
        # By what was written: a job that ended early shows its other parts as skipped.
        stored = [self.store.hget(redis_keys.parts(self.job), f"{index}:state") for index in range(int(record["n"]))]
        done = sum(state in {"succeeded", "failed"} for state in stored)
        assert int(record["left"]) == int(record["n"]) - done
        # Of the parts themselves; what becomes of a join's questions is told apart.
        assert int(record["failed"]) == stored[:3].count("failed")
        for index, output in self.written.items():
            assert result.parts[index].output == output

    @invariant()
    def time_to_live_is_set_at_the_end_alone(self):
        for key in self.store.keys(redis_keys.all_of_job(self.job)):
            assert (self.store.pttl(key) > 0) == (self.ended_as is not None)


def test_whatever_the_order_of_steps_a_job_ends_once_and_its_counts_agree(server, store):
    here = type("Steps", (Steps,), {"url": server.url, "store": store})
    run_state_machine_as_test(here, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))


# -- reading -------------------------------------------------------------------------------------


def test_standings_tell_what_the_sweeper_needs_without_reading_a_text(run):
    async def steps(ledger):
        job = await single(ledger, priority="high", deadline=10)
        fanout = await planned(ledger, vote_of(3))
        now = await ledger.fleet.now()
        first, second = await ledger.views.summaries([job, fanout])
        assert (first.state, first.kind, first.n, first.left, first.priority) == ("routed", "single", 1, 1, "high")
        assert now + 5 < first.deadline_at <= now + 10
        assert (second.kind, second.n, second.left, second.deadline_at) == ("vote", 3, 3, None)

    run(steps)


def test_an_answer_that_is_no_unicode_is_kept_all_the_same(run):
    async def steps(ledger):
        job = await single(ledger)
        await ledger.jobs.claim(job, 0, "owner")
        assert await finish(ledger, job, 0, "owner", "half \ud83d") == ("ended", "succeeded")
        assert digest("half \ud83d") != digest("half \ud83e")
        return await ledger.views.result(job)

    assert run(steps).parts[0].output == "half ?"


# -- accepting -------------------------------------------------------------------------------------


CONFIG = Config.model_validate(
    {"models": {"fast": {"provider": "simulated"}}, "routes": {"r": {"models": ["fast"]}}, "default_route": "r"}
)


def test_jobs_with_idempotency_keys_are_bound_in_one_round_trip_and_a_key_means_one_request(run, store):
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

    run(steps)
    assert all(store.ttl(key) > 0 for key in store.keys(redis_keys.idempotency("*")))


def test_the_sweeper_s_note_is_there_before_the_job_and_by_the_server_s_clock(run, store):
    async def steps(ledger):
        soon = await accepted(ledger, Job(text="x", deadline=1))
        later = await accepted(ledger)
        return soon, later, await ledger.fleet.now()

    soon, later, now = run(steps)
    assert now < store.zscore(redis_keys.ACTIVE_JOBS, soon) <= now + 1
    assert now + 4 < store.zscore(redis_keys.ACTIVE_JOBS, later) <= now + 5


# -- the server ------------------------------------------------------------------------------------


def test_a_server_that_forgot_the_scripts_is_told_them_again(run, store):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3))
        store.script_flush()
        assert (await ledger.jobs.claim(job, 0, "owner")).attempt == 1
        store.script_flush()
        assert (await finish(ledger, job, 0, "owner", ballot="yes"))[0] == "more"
        store.script_flush()
        jobs = [Job(text="x") for _ in range(100)]
        assert await ledger.accept(jobs, keep_seconds=KEEP) == ["accepted"] * 100

    run(steps)


def test_a_burst_of_more_steps_than_connections_waits_and_does_not_fail(server):
    async def burst():
        ledger = Ledger(server.url, MODELS, connections=4)
        try:
            job = await single(ledger)
            replies = await asyncio.gather(*(ledger.jobs.claim(job, 0, f"owner {n}") for n in range(200)))
            assert sum(isinstance(reply, Claim) for reply in replies) == 1
        finally:
            await ledger.close()

    asyncio.run(burst())


def test_those_who_wait_for_jobs_do_not_take_the_connections_of_those_who_work(server):
    async def waits():
        ledger = Ledger(server.url, MODELS, connections=4)
        try:
            job = await single(ledger)
            channels = [ledger.views.announcements(job) for _ in range(20)]
            open_ = [await channel.__aenter__() for channel in channels]
            await ledger.jobs.claim(job, 0, "owner")
            for channel in open_:
                while (message := await channel.get_message(timeout=10)) is None:
                    pass  # the confirmation of the subscription
                assert message["data"] == "running"
            for channel in channels:
                await channel.__aexit__(None, None, None)
        finally:
            await ledger.close()

    asyncio.run(waits())


def test_a_server_that_is_gone_is_told_as_unreachable_in_bounded_time(tmp_path):
    server = ValkeyServer(tmp_path / "state")
    server.start()

    async def steps():
        ledger = Ledger(server.url, MODELS)
        try:
            job = await single(ledger)
            server.stop()
            begun = time.monotonic()
            with pytest.raises(Unreachable, match="is it running"):
                await ledger.jobs.claim(job, 0, "owner")
            with pytest.raises(Unreachable):
                await ledger.settle(CallId(job, 0), "fast", "owner", output="x", record=PartRecord())
            assert time.monotonic() - begun < 5
        finally:
            await ledger.close()

    try:
        asyncio.run(steps())
    finally:
        server.stop()


def test_a_script_touches_the_keys_of_its_own_tag_alone(server, store):
    job = Job(text="x")
    vote = vote_of(3)

    async def steps(user, function):
        ledger = Ledger(server.url.replace("unix://", f"unix://{user}:pw@"), MODELS)
        try:
            return await function(ledger)
        finally:
            await ledger.close()

    async def of_jobs(ledger):
        jobs = ledger.jobs
        await ledger.store.run(jobs.accept(job, keep_seconds=KEEP), jobs.accept(vote, keep_seconds=KEEP))
        await jobs.route(job.id, DECISION, placed="waiting")
        await jobs.queue(job.id, [(0, "fast")])
        assert (await jobs.claim(job.id, 0, "one")).attempt == 1
        assert await jobs.retry(job.id, 0, "one", PartRecord(error="429"))
        await jobs.requeue(job.id, 0, "one")
        await jobs.stop(job.id, "cancelled")
        await jobs.route(vote.id, DECISION)
        await ledger.store.run(*jobs.plan(vote.id, DECISION.model_dump_json(), StagePlan([PartSpec("fast")], wave=1)))
        await jobs.claim(vote.id, 0, "one")
        await jobs.finish(vote.id, 0, "one", output="x", record=PartRecord(ballot="b"))
        assert (await jobs.join(vote.id)).word == "go"
        assert await jobs.conclude(vote.id, "succeeded", output="x")
        with pytest.raises(PointsmanError, match=r"(?i)permission"):
            await ledger.fleet.tick()

    async def of_the_fleet(ledger):
        fleet, call, part = ledger.fleet, CallId(job.id, 0), part_call(vote.id, 0)
        await fleet.configure({"fast": 1})
        await fleet.scale("fast", 2)
        await fleet.admit(call, ranked([Preference("fast", 0.0)]), priority="normal")
        await fleet.lease({"fast": [call, part]})
        await fleet.lease_left(call, "fast")
        await fleet.delay(call, "fast", ranked([Preference("fast", 0.0)]), priority="low", seconds=0)
        await fleet.tick()
        await fleet.find([call, part])
        await fleet.lapsed()
        await fleet.forget([])
        await fleet.release(call, "fast")
        await fleet.withdraw([call, part])
        await fleet.snapshot(turn="r")
        await fleet.watch({job.id: 1.0})
        await fleet.due()
        await fleet.unwatch([job.id])
        await fleet.cancel(job.id)
        await fleet.cancelled()
        assert await fleet.lead("acl", "me", seconds=1)
        await fleet.scale("fast", None)
        with pytest.raises(PointsmanError, match=r"(?i)permission"):
            await ledger.jobs.stop(job.id, "failed")

    for user, patterns, function in (
        ("jobs", [f"~{redis_keys.all_of_job(one.id)}" for one in (job, vote)], of_jobs),
        ("fleet", [f"~{redis_keys.fleet('*')}"], of_the_fleet),
    ):
        store.execute_command("ACL", "SETUSER", user, "on", ">pw", "+@all", "&*", "resetkeys", *patterns)
        asyncio.run(steps(user, function))
        store.acl_deluser(user)
