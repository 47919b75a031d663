"""The recovery path, one sweep at a time: a real ledger, and a publisher that notes what it is asked to send."""

from __future__ import annotations

import asyncio
import json

import pytest

from tasks.contract.job import CallId, Job, parse_job
from tasks.contract.job_fields import Parent
from tasks.contract.result import Decision
from tasks.ledger import WAVE, Admitted, Claim, PartRecord, StagePlan
from tasks.ledger.jobs import MOST_LOST
from tasks.loading.load import parse
from tasks.parallel.part_spec import PartSpec
from tasks.queue import app as queue_app
from tasks.routing.snapshot import Preference
from tests import redis_keys
from tests.harness import ledger_runs, part_call, ranked
from tests.publishing import RecordingPublisher
from worker.leases import Heartbeat
from worker.rebalancer import Rebalancer
from worker.sweeper import CHUNK, Sweeper

MODELS = ("fast", "slow")
CONFIG = parse("""
models: {fast: {provider: simulated, capacity: 100}, slow: {provider: simulated, capacity: 100}}
routes: {r: {models: [fast, slow]}}
default_route: r
""")
EITHER = (Preference("fast", 0.0, 1.0), Preference("slow", 0.0, 1.0))
DECISION = Decision(route="r", classifier="rules", confidence=1.0, strategy="least_connections")


class Place:
    def __init__(self, ledger, store):
        self.ledger, self.jobs, self.fleet, self.store = ledger, ledger.jobs, ledger.fleet, store
        self.notes = RecordingPublisher()
        self.sweeper = Sweeper(ledger, self.notes, Rebalancer(ledger, CONFIG))

    async def sweep(self):
        self.notes.clear()
        await self.sweeper.sweep()
        return self.notes

    async def single(self, *, text="hello", **more):
        """A call that was admitted to the model fast, and its job knows."""
        job = Job(text=text, **more)
        await self.ledger.accept([job], keep_seconds=3600)
        await self.jobs.route(job.id, DECISION, placed="queued", model="fast")
        (admitted,) = await self.fleet.admit(CallId(job.id, 0), ranked(EITHER[:1]), priority=job.priority)
        return admitted

    async def fanout(self, n, *, policy="partial"):
        job = parse_job({"kind": "sections", "items": ["x"] * n, "policy": policy})
        await self.ledger.accept([job], keep_seconds=3600)
        await self.jobs.route(job.id, DECISION)
        await self.ledger.plan(job.id, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * n))
        return job.id

    async def nested(self, *, wave=WAVE):
        """A job whose three parts are jobs, the first of which was accepted; the ids of all."""
        job = parse_job({"kind": "sections", "items": ["x"] * 3, "policy": "partial"})
        children = [Job(text="x", parent=Parent(part=f"{job.id}.{index}.0", depth=1)) for index in range(3)]
        await self.ledger.accept([job, children[0]], keep_seconds=3600)
        await self.jobs.route(job.id, DECISION)
        plans = [PartSpec("", job=child.id) for child in children]
        await self.ledger.plan(job.id, DECISION.model_dump_json(), StagePlan(plans, wave=wave))
        return job.id, [child.id for child in children]

    async def lapse(self, call, model="fast"):
        """As if the lease's time had passed, and the time since the call started with it."""
        await self.fleet.lease({model: [call]}, seconds=-1)
        key, field = redis_keys.parts(call.job), f"{call.index}:started_at"
        if self.store.hexists(key, field):
            self.store.hset(key, field, int(self.store.hget(key, field)) - 60_000)

    async def look_now(self, *jobs):
        await self.fleet.watch(dict.fromkeys(jobs, -1.0))


@pytest.fixture
def run(server, store):
    """Run a coroutine function at a place of its own."""

    async def view(ledger):
        await ledger.fleet.configure({"fast": 100, "slow": 100})
        return Place(ledger, store)

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs


# -- calls ---------------------------------------------------------------------------------------


def test_running_call_is_left_alone(run):
    async def steps(at):
        call, model = await at.single()
        await at.jobs.claim(call.job, 0, "owner")
        notes = await at.sweep()
        assert (notes.called, notes.routed) == ([], [])
        # Its lease lapsed while its claim was on the way: it just started.
        await at.fleet.lease({model: [call]}, seconds=-1)
        assert (await at.sweep()).called == []

    run(steps)


def test_calls_of_a_dead_worker_are_sent_again_each_once(run):
    async def steps(at):
        calls = [await at.single() for _ in range(20)]
        for call, _ in calls:
            await at.jobs.claim(call.job, 0, "dead")
            await at.lapse(call)
        assert set((await at.sweep()).called) == set(calls)
        assert (await at.sweep()).called == []
        assert (await at.jobs.claim(calls[0].call.job, 0, "other")).attempt == 2

    run(steps)


def test_call_that_kills_every_worker_fails(run):
    async def steps(at):
        call, _ = await at.single()
        for lost in range(MOST_LOST):
            await at.jobs.claim(call.job, 0, f"worker {lost}")
            await at.lapse(call)
            await at.sweep()
        result = await at.ledger.views.result(call.job)
        assert (result.state, result.error) == ("failed", "its worker died each time that it ran")
        assert await at.fleet.find([call]) == ["nowhere"]

    run(steps)


def test_lost_message_is_sent_again_and_one_that_still_waits_is_not(run):
    async def steps(at):
        lost, waiting = await at.single(), await at.single()
        message = {"headers": {"id": str(waiting.call)}, "body": ""}
        at.store.lpush("model.fast", json.dumps(message))
        for call, _ in (lost, waiting):
            await at.lapse(call)
        assert (await at.sweep()).called == [lost]
        assert await at.fleet.lapsed() == []

    run(steps)


def test_call_admitted_by_a_dead_process_runs_on_its_model(run):
    async def steps(at):
        job = Job(text="x")
        await at.ledger.accept([job], keep_seconds=3600)
        await at.jobs.route(job.id, DECISION, placed="waiting")
        # The process that admitted it died before it could write to the job, and before it published.
        (admitted,) = await at.fleet.admit(CallId(job.id, 0), ranked(EITHER), priority="normal")
        await at.lapse(admitted.call, admitted.model)

        assert (await at.sweep()).called == [admitted]

        claim = await at.jobs.claim(job.id, 0, "owner")
        assert isinstance(claim, Claim)
        assert claim.part.model == admitted.model

    run(steps)


def test_lease_left_behind_does_not_call_back_what_waits_or_runs_elsewhere(run):
    async def steps(at):
        delayed, _ = await at.single()
        await at.jobs.claim(delayed.job, 0, "one")
        await at.jobs.retry(delayed.job, 0, "one", PartRecord(error="429"))
        await at.fleet.delay(delayed, "fast", ranked([Preference("fast", 0.0)]), priority="normal", seconds=60)
        running, _ = await at.single()
        await at.jobs.claim(running.job, 0, "two")
        await at.lapse(delayed)
        await at.lapse(running, "slow")

        assert (await at.sweep()).called == []

        assert await at.fleet.find([delayed, running]) == ["delayed", "single"]
        assert await at.fleet.lapsed() == []

    run(steps)


def test_leases_of_what_has_ended_are_given_back(run):
    async def steps(at):
        call, _ = await at.single()
        await at.jobs.stop(call.job, "cancelled")
        await at.jobs.claim(call.job, 0, "late")
        await at.fleet.lease({"fast": [call, CallId("gone", 0)]}, seconds=-1)
        assert (await at.sweep()).called == []
        assert (await at.fleet.snapshot()).models["fast"].load == 0

    run(steps)


def test_heartbeat_that_arrives_after_the_end_leaves_no_lease_behind(run):
    async def steps(at):
        call, model = await at.single()
        heartbeat = Heartbeat(at.ledger)
        store, run_at_once, ended = at.ledger.store, at.ledger.store.run, asyncio.Event()

        async def run_late(*commands):
            # The call ends and returns its lease while the renewal is on the way.
            store.run = run_at_once
            await ended.wait()
            return await run_at_once(*commands)

        store.run = run_late
        with heartbeat.keep(call, model, asyncio.get_running_loop().create_future()):
            beat = asyncio.ensure_future(heartbeat.beat())
            await asyncio.sleep(0)
        await at.jobs.claim(call.job, 0, "owner")
        await at.ledger.settle(call, model, "owner", output="x", record=PartRecord())
        ended.set()
        await beat
        assert await at.fleet.find([call]) == ["nowhere"]

    run(steps)


# -- jobs ----------------------------------------------------------------------------------------


def test_unrouted_job_is_routed_once_while_its_message_waits(run, monkeypatch):
    async def steps(at):
        lost, waiting = Job(text="x"), Job(text="x")
        await at.ledger.accept([lost, waiting], keep_seconds=3600)
        at.store.lpush("route", json.dumps({"headers": {"id": f"{waiting.id}.route"}}))
        await at.look_now(lost.id, waiting.id)
        assert (await at.sweep()).routed == [lost.id]
        # A queue too long to read is no reason to make it longer.
        monkeypatch.setattr(queue_app, "MOST_READ", 0)
        await at.look_now(lost.id, waiting.id)
        assert (await at.sweep()).routed == []

    run(steps)


def test_sweep_looks_at_every_due_job(run):
    async def steps(at):
        jobs = [Job(text="x") for _ in range(CHUNK + 10)]
        await at.ledger.accept(jobs, keep_seconds=3600)
        await at.look_now(*(job.id for job in jobs))
        assert sorted((await at.sweep()).routed) == sorted(job.id for job in jobs)
        assert await at.fleet.due() == []

    run(steps)


@pytest.mark.parametrize("claimed", [False, True])
def test_single_call_that_stands_nowhere_is_found_again(run, claimed):
    async def steps(at):
        call, model = await at.single()
        if claimed:
            await at.jobs.claim(call.job, 0, "dead")
            await at.lapse(call)
        await at.fleet.forget([Admitted(call, model)])
        await at.look_now(call.job)
        notes = await at.sweep()
        if not claimed:
            assert notes.routed == [call.job]
            return
        # A call that ran keeps its model: routing takes no job that runs.
        assert (await at.sweep()).called == [Admitted(call, model)]

    run(steps)


@pytest.mark.parametrize("state", ["queued", "running", "waiting"])
def test_part_that_stands_nowhere_is_found_again(run, state):
    async def steps(at):
        job = await at.fanout(3)
        for index in (0, 1):
            await at.jobs.claim(job, index, "owner")
            await at.ledger.settle(part_call(job, index), "fast", "owner", output="x", record=PartRecord())
        call = part_call(job, 2)
        if state != "queued":
            await at.jobs.claim(job, 2, "owner")
            await at.lapse(call)
        if state == "waiting":
            await at.jobs.retry(job, 2, "owner", PartRecord(error="429"))
        await at.fleet.forget([Admitted(call, "fast")])
        await at.look_now(job)
        await at.sweep()
        assert (await at.sweep()).called == [Admitted(call, "fast")]

    run(steps)


def test_next_wave_without_a_message_is_asked_for_once(run):
    async def steps(at):
        job = await at.fanout(2 * WAVE + 1)
        await at.look_now(job)
        assert (await at.sweep()).joined_jobs == []
        for index in range(WAVE):
            at.store.hset(redis_keys.parts(job), f"{index}:state", "succeeded")
        at.store.hset(redis_keys.job(job), "left", WAVE + 1)
        # Whether there is need of it is for the join to say.
        await at.look_now(job)
        assert (await at.sweep()).joined_jobs == [job]
        at.store.lpush("route", json.dumps({"headers": {"id": f"{job}.fanout.1"}}))
        await at.look_now(job)
        assert (await at.sweep()).joined_jobs == []
        assert len((await at.ledger.send_wave(job, 1))[1]) == WAVE
        await at.look_now(job)
        notes = await at.sweep()
        assert (notes.joined_jobs, notes.fanned_out) == ([], [])

    run(steps)


def test_child_jobs_never_accepted_are_created_wave_by_wave(run):
    async def steps(at):
        job, children = await at.nested()
        await at.look_now(job)
        notes = await at.sweep()
        assert (notes.fanned_out, notes.finished_parts, notes.joined_jobs) == ([(job, 0)], [], [])
        at.store.lpush("route", json.dumps({"headers": {"id": f"{job}.fanout.0"}}))
        await at.look_now(job)
        assert (await at.sweep()).fanned_out == []
        at.store.delete("route")
        await at.ledger.accept([Job(id=child, text="x") for child in children[1:]], keep_seconds=3600)
        await at.look_now(job)
        assert (await at.sweep()).fanned_out == []
        # What was not sent yet is not to be accepted.
        later, _ = await at.nested(wave=1)
        await at.look_now(later)
        assert (await at.sweep()).fanned_out == []

    run(steps)


def test_end_of_a_child_job_is_reported_where_the_message_was_lost(run):
    async def steps(at):
        job, children = await at.nested(wave=1)
        await at.look_now(job)
        assert (await at.sweep()).finished_parts == []
        await at.jobs.stop(children[0], "failed", "so it is")
        for _ in range(2):
            await at.look_now(job)
            assert (await at.sweep()).finished_parts == [f"{job}.0.0"]
        finishing = at.jobs.finish(job, 0, children[0], output=None, record=PartRecord(error="so it is"))
        await at.ledger.store.run(finishing)
        await at.look_now(job)
        notes = await at.sweep()
        # All that was sent has ended: the join asks for the rest.
        assert (notes.finished_parts, notes.joined_jobs) == ([], [job])

    run(steps)


def test_job_that_is_a_part_ends_it_when_it_expires_or_kills_every_worker(run):
    async def steps(at):
        expiring = Job(text="x", deadline=30, parent=Parent(part="above.0.0", depth=1))
        await at.ledger.accept([expiring], keep_seconds=3600)
        at.store.hset(redis_keys.job(expiring.id), "deadline_at", 1)
        await at.look_now(expiring.id)
        assert (await at.sweep()).finished_parts == ["above.0.0"]
        call, _ = await at.single(parent=Parent(part="above.1.0", depth=1))
        for lost in range(MOST_LOST):
            await at.jobs.claim(call.job, 0, f"worker {lost}")
            await at.lapse(call)
            notes = await at.sweep()
        assert notes.finished_parts == ["above.1.0"]

    run(steps)


def test_job_past_its_deadline_ends_the_jobs_that_are_its_parts(run):
    async def steps(at):
        job, children = await at.nested()
        at.store.hset(redis_keys.job(job), "deadline_at", 1)
        await at.look_now(job)
        await at.sweep()
        assert await at.ledger.views.states([job, children[0]]) == ["expired", "cancelled"]
        result = await at.ledger.views.result(children[0])
        assert result.error == "the job that it was a part of has ended"

    run(steps)


def test_job_that_is_complete_and_one_whose_join_takes_too_long_are_joined(run):
    async def steps(at):
        job = await at.fanout(1)
        await at.jobs.claim(job, 0, "owner")
        await at.ledger.settle(part_call(job, 0), "fast", "owner", output="x", record=PartRecord())
        await at.look_now(job)
        assert (await at.sweep()).joined_jobs == [job]
        assert (await at.jobs.join(job)).word == "go"
        await at.look_now(job)
        assert (await at.sweep()).joined_jobs == [job]

    run(steps)


def test_job_past_its_deadline_expires_wherever_it_stands(run):
    async def steps(at):
        call, _ = await at.single(deadline=30)
        fan_out = await at.fanout(3)
        for job in (call.job, fan_out):
            at.store.hset(redis_keys.job(job), "deadline_at", 1)
        await at.look_now(call.job, fan_out)
        await at.sweep()
        assert await at.ledger.views.states([call.job, fan_out]) == ["expired", "expired"]
        assert (await at.fleet.snapshot()).models["fast"].load == 0
        assert await at.fleet.cancelled() == {call.job, fan_out}
        assert at.store.zcard(redis_keys.ACTIVE_JOBS) == 0

    run(steps)


def test_job_is_looked_at_when_its_deadline_comes_at_the_latest(run):
    async def steps(at):
        call, _ = await at.single(deadline=3)
        await at.look_now(call.job)
        await at.sweep()
        now = await at.fleet.now()
        assert at.store.zscore(redis_keys.ACTIVE_JOBS, call.job) <= now + 3

    run(steps)


def test_jobs_that_ended_or_are_gone_are_forgotten(run):
    async def steps(at):
        call, _ = await at.single()
        await at.jobs.stop(call.job, "cancelled")
        await at.look_now(call.job, "gone")
        notes = await at.sweep()
        assert (notes.routed, notes.called) == ([], [])
        assert at.store.zcard(redis_keys.ACTIVE_JOBS) == 0

    run(steps)
