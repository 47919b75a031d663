"""What crashes, races and odd parts must not do to a fan-out: a real ledger, a publisher that notes what it sends."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tasks.contract.job import CallId, parse_job
from tasks.contract.result import Decision
from tasks.fanout import fan_out
from tasks.finish_part import copy_result
from tasks.join import join_job
from tasks.ledger import Claim, PartRecord, StagePlan
from tasks.loading.load import parse
from tasks.parallel.part_spec import PartSpec
from tests import redis_keys
from tests.harness import ledger_runs
from tests.publishing import RecordingPublisher
from worker.rebalancer import Rebalancer, StrandedCall
from worker.sweeper import Sweeper

CONFIG = parse("""
models:
  fast: {provider: simulated, capacity: 100}
  slow: {provider: simulated, capacity: 100}
  judge: {provider: simulated, capacity: 100}
routes:
  r: {models: [fast, slow], strategy: least_connections}
  other: {models: [slow, judge]}
default_route: other
""")
DECISION = Decision(route="r", classifier="rules", confidence=1.0, strategy="least_connections")


class Place:
    def __init__(self, ledger, store):
        self.ledger, self.jobs, self.fleet, self.store = ledger, ledger.jobs, ledger.fleet, store
        self.notes = RecordingPublisher()
        self.ports = SimpleNamespace(config=CONFIG, ledger=ledger, publisher=self.notes, predictor=None)
        self.sweeper = Sweeper(ledger, self.notes, Rebalancer(ledger, CONFIG))

    async def routed(self, decision=DECISION, **fields):
        job = parse_job(fields)
        await self.ledger.accept([job], keep_seconds=3600)
        await self.jobs.route(job.id, decision)
        return job

    async def answer(self, job, index, output="answer"):
        claim = await self.jobs.claim(job, index, f"owner of {index}")
        assert isinstance(claim, Claim)
        outcome, _ = await self.ledger.settle(
            CallId(job, index, 0), claim.part.model, f"owner of {index}", output=output, record=PartRecord()
        )
        return outcome


@pytest.fixture
def run(server, store):
    """Run a coroutine function at a place of its own."""

    async def view(ledger):
        await ledger.fleet.configure(dict.fromkeys(CONFIG.models, 100))
        return Place(ledger, store)

    with ledger_runs(server.url, tuple(CONFIG.models), view) as runs:
        yield runs


# -- waves ---------------------------------------------------------------------------------------


def test_parts_that_failed_before_they_were_sent_hold_up_no_wave(run):
    async def steps(at):
        job = await at.routed(kind="sections", items=["x"] * 4, policy="partial")
        unfit = PartSpec("fast", error="no model can take it")
        parts = [PartSpec("fast"), unfit, PartSpec("fast"), unfit]
        await at.ledger.plan(job.id, DECISION.model_dump_json(), StagePlan(parts, wave=1))
        waves = 1
        for index in range(4):
            if index in {0, 2}:
                # Its wave is under way: nothing is to be joined or sent.
                assert not (await at.jobs.join(job.id)).wave_ended
                await at.answer(job.id, index)
            if index < 3:
                gate = await at.jobs.join(job.id)
                assert (gate.wave_ended, gate.waves) == (True, waves)
                assert await at.ledger.send_wave(job.id, waves, size=1) is not None
                waves += 1
        assert (await at.jobs.join(job.id)).word == "go"
        return await at.ledger.views.result(job.id)

    assert run(steps).parts_failed == 2


# -- jobs that end while they are planned ----------------------------------------------------------


def test_parts_of_a_job_that_has_ended_leave_nothing_behind(run):
    async def steps(at):
        job = await at.routed(kind="sections", items=["x"] * 2)
        await at.ledger.cancel(job.id, "cancelled", "so it is")
        stage = StagePlan([PartSpec("fast", text="x")] * 1001)
        assert await at.ledger.plan(job.id, DECISION.model_dump_json(), stage) == ("over", None, [])
        assert await at.ledger.plan("gone", DECISION.model_dump_json(), stage) == ("gone", None, [])
        assert at.store.keys(redis_keys.all_of_job("gone")) == []
        assert all(at.store.pttl(key) > 0 for key in at.store.keys(redis_keys.all_of_job(job.id)))

    run(steps)


def test_child_jobs_are_cancelled_with_a_job_that_is_being_planned(run, monkeypatch):
    async def steps(at):
        job = await at.routed(kind="sections", items=["x", "y"], each={"kind": "vote", "n": 3})
        stop = at.jobs.stop

        async def plan():
            await fan_out(at.ports, job.id, 0)

        # Between whatever is read of the job and its end.
        async def late_stop(*args, **more):
            await plan()
            return await stop(*args, **more)

        monkeypatch.setattr(at.jobs, "stop", late_stop)
        assert await at.ledger.cancel(job.id, "cancelled", "so it is") == "ok"
        monkeypatch.undo()
        children = await at.ledger.views.children(job.id)
        assert len(children) == 2
        assert await at.ledger.views.states(children) == ["cancelled"] * 2

    run(steps)


@pytest.mark.parametrize("state", ["cancelled", "failed", "succeeded"])
def test_sweeper_cancels_child_jobs_whose_canceller_died(run, state):
    async def steps(at):
        job = await at.routed(kind="sections", items=["x", "y"], each={"kind": "vote", "n": 3})
        await fan_out(at.ports, job.id, 0)
        children = await at.ledger.views.children(job.id)
        await at.jobs.stop(children[0], "failed", "it ended before")
        await at.jobs.stop(job.id, state, "so it is")  # and nothing else: the process dies here
        await at.fleet.watch(dict.fromkeys(children, -1.0))
        await at.sweeper.sweep()
        assert await at.ledger.views.states(children) == ["failed", "cancelled"]

    run(steps)


def test_cost_of_a_cancelled_child_job_is_in_its_parent_s_result(run):
    async def steps(at):
        job = await at.routed(
            kind="sections", items=["x", "y"], each={"kind": "sections", "split": "lines", "each": {"route": "r"}}
        )
        await fan_out(at.ports, job.id, 0)
        (child, _) = await at.ledger.views.children(job.id)
        await at.jobs.route(child, DECISION)
        await fan_out(at.ports, child, 0)
        (inner,) = await at.ledger.views.children(child)
        # A call of the innermost job that has failed once, and shall be made again.
        await at.jobs.route(inner, DECISION, placed="queued", model="fast")
        await at.jobs.claim(inner, 0, "owner")
        await at.jobs.retry(inner, 0, "owner", PartRecord(error="503", spent_usd=0.25))

        assert await at.ledger.cancel(job.id, "cancelled", "so it is") == "ok"

        costs = [(await at.ledger.views.result(name)).cost_usd for name in (inner, child, job.id)]
        assert costs == [0.25, 0.25, 0.25]

    run(steps)


# -- children that never come to be ----------------------------------------------------------------


def test_child_job_that_can_not_be_made_is_counted_by_its_wave(run):
    async def steps(at):
        # The configuration lost the model after the job was accepted.
        job = await at.routed(
            kind="sections",
            policy="partial",
            items=[{"text": "x", "model": "gone"}, {"text": "y", "model": "fast"}],
        )
        await fan_out(at.ports, job.id, 0)
        (part, other) = await at.ledger.views.statuses(job.id, 0, 2)
        assert (part.state, other.state) == ("failed", "running")
        assert at.notes.chords == {(job.id, 0): 2}
        # The chord waits for two: the message of this one is the only one that will ever come.
        assert at.notes.finished_parts == [f"{job.id}.0.0"]
        assert await copy_result(at.ports, CallId(job.id, 0, 0)) == "failed"

    run(steps)


# -- who is asked ----------------------------------------------------------------------------------


def test_planning_model_does_not_change_the_route_of_the_sections(run):
    async def steps(at):
        job = await at.routed(kind="sections", text="hello", split="plan", join_model="judge")
        await fan_out(at.ports, job.id, 0)
        assert [model for _, model in at.notes.called] == ["judge"]
        plan = json.dumps({"sections": [{"title": "one", "brief": "a"}, {"title": "two", "brief": "b"}]})
        await at.answer(job.id, 0, plan)
        assert await join_job(at.ports, job.id) == "asked"
        _, _, decision = await at.ledger.views.read(job.id)
        return decision, [model for _, model in at.notes.called[1:]]

    decision, models = run(steps)
    assert decision.route == "r"
    assert {item.model for item in decision.candidates} == {"fast", "slow"}
    assert len(models) == 2
    assert set(models) <= {"fast", "slow"}


@pytest.mark.parametrize(("asker", "left", "goes"), [("judge", "judge", []), ("route:other", "slow", ["judge"])])
def test_question_whose_model_is_drained_goes_to_another_named_model(run, asker, left, goes):
    async def steps(at):
        job = await at.routed(kind="sections", items=["x", "y"], join="synthesis", join_model=asker)
        await fan_out(at.ports, job.id, 0)
        for index in range(2):
            await at.answer(job.id, index)
        await at.ledger.store.run(at.fleet.serve("process", tuple(CONFIG.models)))
        for model in {"slow", "judge"} - {left}:
            await at.fleet.drain(model, on=True)
        assert await join_job(at.ports, job.id) == "asked"
        question = CallId(job.id, 2, 1)
        assert (question, left) in at.notes.called
        for model in ("slow", "judge"):
            await at.fleet.drain(model, on=model == left, move=True)
        stranded = StrandedCall(question, left, "drained")
        _, admitted = await Rebalancer(at.ledger, CONFIG)._move([stranded], await at.fleet.snapshot())
        return [model for _, model in admitted]

    assert run(steps) == goes


def test_question_of_a_join_over_child_jobs_may_go_to_the_route_s_models(run):
    async def steps(at):
        job = await at.routed(
            kind="sections", items=["x", "y"], each={"kind": "vote", "n": 3}, join="synthesis", join_options={}
        )
        await fan_out(at.ports, job.id, 0)
        for index, child in enumerate(await at.ledger.views.children(job.id)):
            await at.jobs.finish(job.id, index, child, output="done", record=PartRecord())
        assert await join_job(at.ports, job.id) == "asked"
        (parked,) = await at.ledger.sweep.movable_parts([(job.id, 2)])
        claim = await at.jobs.claim(job.id, 2, "owner")
        return parked, claim

    parked, claim = run(steps)
    assert set(parked.candidates) == set(claim.part.candidates) == {"fast", "slow"}


def test_worker_that_lost_its_lease_may_still_fail_an_unclaimed_part(run):
    async def steps(at):
        job = await at.routed(kind="sections", items=["x", "y"], policy="partial")
        await fan_out(at.ports, job.id, 0)
        for index in range(2):
            await at.jobs.claim(job.id, index, "lost")
            at.store.hset(redis_keys.parts(job.id), f"{index}:started_at", 1)
            assert await at.jobs.requeue(job.id, index, "lost") == "ok"
        assert isinstance(await at.jobs.claim(job.id, 1, "other"), Claim)
        failing = [
            at.jobs.finish(job.id, index, "lost", output=None, record=PartRecord(error="no")) for index in range(2)
        ]
        replies = await at.ledger.store.run(*failing)
        return [reply.word for reply in replies], [part.state for part in await at.ledger.views.statuses(job.id, 0, 2)]

    assert run(steps) == (["more", "stale"], ["failed", "running"])
