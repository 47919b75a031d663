"""Stranded calls move to other candidates, and each runs once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tasks.contract.job import CallId, Job, parse_job
from tasks.contract.result import Candidate, Decision, Tried
from tasks.ledger import Admitted, Claim, PartRecord, StagePlan
from tasks.ledger.jobs import MOST_MOVES
from tasks.loading.load import parse
from tasks.parallel.part_spec import PartSpec
from tasks.queue.app import make_app
from tasks.queue.publisher import Publisher
from tasks.routing.choose import rank_again
from tasks.routing.snapshot import Preference
from tests import redis_keys
from tests.harness import DEADLINE, Finals, close_app, fleet, ledger_runs, part_call, ranked, wait_for
from tests.recorder import Say, recorder
from worker.leases import Heartbeat
from worker.rebalancer import WINDOW, Rebalancer
from worker.sweeper import Sweeper

MODELS = ("fast", "slow", "third")
CONFIG = parse("""
models:
  fast: {provider: simulated, capacity: 4}
  slow: {provider: simulated, capacity: 4}
  third: {provider: simulated, capacity: 4}
routes: {r: {models: [fast, slow, third]}}
default_route: r
""")
FAST = Preference("fast", 0.0)


def decided(strategy, *models, **scores):
    candidates = tuple(Candidate(model=model, score=scores.get(model)) for model in models)
    return Decision(route="r", classifier="rules", confidence=1.0, strategy=strategy, candidates=candidates)


EITHER = decided("least_connections", "fast", "slow")


class Place:
    """One sweep at a time: a real ledger and real messages, and no worker."""

    def __init__(self, ledger, store, app):
        self.ledger, self.jobs, self.fleet, self.store = ledger, ledger.jobs, ledger.fleet, store
        self.publisher = Publisher(ledger.store, app)
        self.sweeper = Sweeper(ledger, self.publisher, Rebalancer(ledger, CONFIG))

    async def single(self, *, model="fast", decision=EITHER, **more):
        """A call that was admitted to `model`; its message stands in the queue."""
        job = Job(**({"text": "hello"} | more))
        await self.ledger.accept([job], keep_seconds=3600)
        await self.jobs.route(job.id, decision, placed="queued", model=model)
        admitted = await self.fleet.admit(CallId(job.id, 0), ranked([Preference(model, 0.0)]), priority=job.priority)
        await self.publisher.send_calls(admitted)
        return CallId(job.id, 0)

    async def waiting(self, *models, decision, **more):
        """A call that waits for the first of these models, bound to it."""
        job = Job(**({"text": "hello"} | more))
        await self.ledger.accept([job], keep_seconds=3600)
        await self.jobs.route(job.id, decision, placed="waiting", model=models[0])
        preferences = [Preference(model, float(place)) for place, model in enumerate(models)]
        await self.fleet.admit(CallId(job.id, 0), ranked(preferences, bound=True), priority="normal")
        return CallId(job.id, 0)

    async def sections(self, n, *, model="fast", decision=EITHER):
        job = parse_job({"kind": "sections", "items": ["x"] * n, "policy": "partial"})
        await self.ledger.accept([job], keep_seconds=3600)
        await self.jobs.route(job.id, decision)
        await self.ledger.plan(job.id, decision.model_dump_json(), StagePlan([PartSpec(model)] * n))
        await self.publisher.send_chord(job.id, 0, [(index, model) for index in range(n)])
        return [part_call(job.id, index) for index in range(n)]

    async def dies(self, *models):
        """Workers served these models, and none has for a while."""
        for model in models:
            self.store.hset(redis_keys.SERVED, model, 1)

    def opens(self, model):
        self.store.hset(redis_keys.limiter(model), mapping={"open_until": 9e15, "why": "overloaded"})

    def closes(self, model):
        self.store.hdel(redis_keys.limiter(model), "open_until", "why")

    def queue(self, model):
        """The names of the calls in a model's queue, the next to be taken first."""
        return [
            json.loads(message)["headers"]["id"] for message in reversed(self.store.lrange(f"model.{model}", 0, -1))
        ]

    async def part(self, call):
        return (await self.ledger.views.result(call.job)).parts[call.index]


@pytest.fixture
def run(server, store):
    """Run a coroutine function at a place of its own."""
    app = make_app("outside", server.url)

    async def view(ledger):
        await ledger.fleet.configure(dict.fromkeys(MODELS, 4))
        return Place(ledger, store, app)

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs
    close_app(app)


# -- presence ------------------------------------------------------------------------------------


def test_model_is_open_before_its_first_worker_and_dead_after_its_last(run):
    async def steps(at):
        serving = ["fast"]
        heartbeat = Heartbeat(at.ledger, serving=lambda: serving)
        assert [load.closed for load in (await at.fleet.snapshot()).models.values()] == ["", "", ""]
        await heartbeat.beat()
        assert await at.fleet.serving() == {"fast": 1}
        served = int(at.store.hget(redis_keys.SERVED, "fast"))

        # Its queue is cancelled at run time, another is added.
        serving[:] = ["slow"]
        await heartbeat.beat()
        assert await at.fleet.serving() == {"slow": 1}
        # A worker may be about to serve it again.
        assert (await at.fleet.snapshot()).models["fast"].closed == ""
        at.store.hset(redis_keys.SERVED, "fast", served - 10_001)
        assert (await at.fleet.snapshot()).models["fast"].closed == "dead"

        serving[:] = ["fast"]
        await heartbeat.beat()
        assert (await at.fleet.snapshot()).models["fast"].closed == ""
        await heartbeat.leave()
        assert await at.fleet.serving() == {}

    run(steps)


def test_serving_counts_processes_until_their_report_lapses(run):
    async def steps(at):
        for _ in range(3):
            await Heartbeat(at.ledger, serving=lambda: ["fast"]).beat()
        assert await at.fleet.serving() == {"fast": 3}
        for mark in at.store.zrange(redis_keys.SERVING, 0, 0):
            at.store.zadd(redis_keys.SERVING, {mark: 1})
        assert await at.fleet.serving() == {"fast": 2}

    run(steps)


def test_dead_model_gets_no_call_until_it_is_served_again(run):
    async def steps(at):
        await at.dies("fast")
        alone, either = CallId("alone", 0), CallId("either", 0)
        assert await at.fleet.admit(alone, ranked([FAST]), priority="normal") == []
        preferences = [FAST, Preference("slow", 1.0)]
        assert await at.fleet.admit(either, ranked(preferences, bound=True), priority="normal") == [
            Admitted(either, "slow")
        ]
        await Heartbeat(at.ledger, serving=lambda: ["fast"]).beat()
        assert await at.fleet.tick() == [Admitted(alone, "fast")]

    run(steps)


def test_closed_model_gets_no_call_while_parts_run_there(run):
    async def steps(at):
        await at.sections(3)
        for number in range(3):
            at.store.zadd(redis_keys.leases("fast"), {f"attempt{number}": 9e15})
        await at.fleet.drain("fast", on=True)
        assert await at.fleet.admit(CallId("late", 0), ranked([FAST]), priority="normal") == []

    run(steps)


# -- queued calls --------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["breaker", "dead", "drained", "budget"])
def test_queued_calls_leave_a_closed_model(run, why):
    async def steps(at):
        calls = [await at.single() for _ in range(3)]
        if why == "breaker":
            at.opens("fast")
        elif why == "dead":
            await at.dies("fast")
        elif why == "budget":
            seconds, _ = at.store.time()
            at.store.hset(redis_keys.limiter("fast"), "spent_day", seconds // 86_400)
        else:
            await at.fleet.drain("fast", on=True, move=True)
        await at.sweeper.sweep()
        await at.sweeper.sweep()

        assert at.queue("fast") == []
        assert sorted(at.queue("slow")) == sorted(map(str, calls))
        for call in calls:
            part = await at.part(call)
            assert (part.state, part.model) == ("queued", "slow")
            assert [(move.model, move.why) for move in part.moved] == [("fast", why)]
        assert at.store.zcard(redis_keys.claims("fast")) == 0
        assert at.store.zcard(redis_keys.claims("slow")) == 3
        assert isinstance(await at.jobs.claim(calls[0].job, 0, "owner", at="slow"), Claim)

    run(steps)


def test_queued_calls_of_a_drained_model_stay_without_move(run):
    async def steps(at):
        call = await at.single()
        await at.fleet.drain("fast", on=True)
        await at.sweeper.sweep()
        assert at.queue("fast") == [str(call)]
        await at.fleet.drain("fast", on=False)
        assert await at.fleet.drained() == {}
        assert (await at.fleet.snapshot()).models["fast"].closed == ""

    run(steps)


def test_model_that_is_dead_for_one_sweep_keeps_its_calls(run):
    async def steps(at):
        call = await at.single()
        await at.dies("fast")  # as after Redis was away: its workers have not reported yet
        await at.sweeper.sweep()
        await Heartbeat(at.ledger, serving=lambda: ["fast"]).beat()
        await at.sweeper.sweep()
        assert at.queue("fast") == [str(call)]

    run(steps)


@pytest.mark.parametrize("reason", ["named", "others closed", "others spent", "no capacity"])
def test_call_that_has_nowhere_to_go_stays(run, reason):
    async def steps(at):
        call = await at.single(decision=decided("explicit", "fast") if reason == "named" else EITHER)
        if reason == "others closed":
            at.opens("slow")
        if reason == "others spent":
            tried = Tried(model="slow", attempts=99, error="timeout")
            at.store.hset(redis_keys.parts(call.job), "0:tried", json.dumps([tried.model_dump()]))
        if reason == "no capacity":
            await at.fleet.scale("slow", 0)
        at.opens("fast")
        await at.sweeper.sweep()
        assert at.queue("fast") == [str(call)]
        assert (await at.part(call)).moved == ()
        assert at.store.zcard(redis_keys.claims("fast")) == 1

    run(steps)


def test_call_moves_three_times_at_most(run):
    async def steps(at):
        call = await at.single()
        for number in range(MOST_MOVES + 2):
            model = ("fast", "slow")[number % 2]
            at.opens(model)
            await at.sweeper.sweep()
            at.closes(model)
        part = await at.part(call)
        assert [move.model for move in part.moved] == ["fast", "slow", "fast"]
        assert at.queue("slow") == [str(call)]

    run(steps)


def test_hashed_call_moves_to_the_next_model_of_its_key(run):
    async def steps(at):
        decision = decided("consistent_hash", "fast", "slow", "third")
        for number in range(8):
            job = Job(text="x", key=f"{number}")
            among = ("fast", "slow", "third")
            snapshot = await at.fleet.snapshot()
            ranking = rank_again(job, decision, CONFIG, snapshot, candidates=among, fallbacks=(), text=None)
            order = [preference.model for preference in ranking.preferences]
            call = await at.single(model=order[0], decision=decision, key=f"{number}")
            at.opens(order[0])
            await at.sweeper.sweep()
            assert (await at.part(call)).model == order[1]
            at.closes(order[0])
            await at.jobs.stop(call.job, "cancelled")
            await at.fleet.withdraw([call])

    run(steps)


def test_immovable_calls_do_not_hold_up_those_behind_them(run):
    async def steps(at):
        named = decided("explicit", "fast")
        await at.fleet.scale("fast", 2 * WINDOW)
        stay = [await at.single(decision=named) for _ in range(WINDOW + 1)]
        goes = await at.single()
        at.opens("fast")
        await at.sweeper.sweep()
        assert (await at.part(goes)).model == "fast"
        await at.sweeper.sweep()
        assert (await at.part(goes)).model == "slow"
        assert at.queue("fast") == list(map(str, stay))

    run(steps)


def test_sweep_moves_more_than_one_window(run):
    async def steps(at):
        calls = await at.sections(WINDOW + 50)
        at.opens("fast")
        await at.sweeper.sweep()
        assert at.queue("fast") == []
        places = Counter(await at.fleet.find(calls))
        assert places == {"single": 8, "waiting": WINDOW + 42}

    run(steps)


def test_moved_parts_stay_in_their_chord(run):
    async def steps(at):
        calls = await at.sections(3)
        before = [json.loads(message) for message in at.store.lrange("model.fast", 0, -1)]
        at.opens("fast")
        await at.sweeper.sweep()
        after = [json.loads(message) for message in at.store.lrange("model.slow", 0, -1)]
        assert sorted(at.queue("slow")) == sorted(map(str, calls))
        for known in ("group", "group_index"):
            assert sorted(message["headers"][known] for message in after) == sorted(
                message["headers"][known] for message in before
            )

    run(steps)


def test_message_of_an_operator_stays_in_its_queue(run):
    async def steps(at):
        at.store.lpush("model.fast", json.dumps({"headers": {"id": "not-ours"}, "body": ""}), "no JSON at all")
        call = await at.single()
        at.opens("fast")
        await at.sweeper.sweep()
        assert at.queue("slow") == [str(call)]
        assert at.store.llen("model.fast") == 2

    run(steps)


def test_call_whose_message_a_worker_has_just_taken_does_not_move(run):
    async def steps(at):
        call = await at.single()
        at.opens("fast")
        read = at.ledger.sweep.inputs

        async def inputs(calls):
            at.store.rpop("model.fast")
            return await read(calls)

        at.ledger.sweep.inputs = inputs
        await at.sweeper.sweep()
        part = await at.part(call)
        assert (part.state, part.model, part.moved) == ("queued", "fast", ())
        assert at.queue("slow") == []

    run(steps)


def test_call_waiting_for_a_closed_model_moves_to_an_opened_candidate(run):
    async def steps(at):
        # The other was closed when it was placed: whose turn it is was not asked of it.
        turns = decided("round_robin", "fast", "slow")
        at.opens("fast")
        stays = await at.waiting("fast", decision=decided("explicit", "fast"))
        goes = await at.waiting("fast", decision=turns)
        at.opens("slow")
        await at.sweeper.sweep()
        assert await at.fleet.find([stays, goes]) == ["waiting", "waiting"]
        at.closes("slow")
        await at.sweeper.sweep()
        assert await at.fleet.find([stays, goes]) == ["waiting", "single"]
        assert (await at.part(goes)).model == "slow"
        assert at.queue("slow") == [str(goes)]

    run(steps)


# -- calls without a message -----------------------------------------------------------------------


async def lapse(at, call, model="fast"):
    await at.fleet.lease({model: [call]}, seconds=-1)
    key = redis_keys.parts(call.job)
    if at.store.hexists(key, "0:started_at"):
        at.store.hincrby(key, "0:started_at", -60_000)


@pytest.mark.parametrize("claimed", [False, True])
def test_calls_of_a_dead_pool_move_to_another_candidate(run, claimed):
    async def steps(at):
        call = await at.single()
        at.store.rpop("model.fast")
        if claimed:
            await at.jobs.claim(call.job, 0, "dead", at="fast")
        await at.dies("fast")
        await at.sweeper.sweep()
        await lapse(at, call)
        await at.sweeper.sweep()
        assert (at.queue("fast"), at.queue("slow")) == ([], [str(call)])
        assert (await at.part(call)).model == "slow"

    run(steps)


def test_crash_after_the_message_is_removed_loses_no_call(run):
    async def steps(at):
        call = await at.single()
        at.opens("fast")

        class Died(Exception):
            """This process, at this point."""

        def died(*_):
            raise Died

        move, at.jobs.move = at.jobs.move, died
        await at.sweeper.sweep()
        assert at.queue("fast") == []
        at.jobs.move = move
        await lapse(at, call)
        await at.sweeper.sweep()
        assert at.queue("slow") == [str(call)]

    run(steps)


def test_crash_between_the_halves_of_a_move_loses_no_call(run):
    async def steps(at):
        call = await at.single()
        at.store.rpop("model.fast")
        await at.jobs.move(call.job, 0, "queued", "fast", "breaker")
        await lapse(at, call)
        await at.sweeper.sweep()
        assert at.queue("fast") == [str(call)]
        assert isinstance(await at.jobs.claim(call.job, 0, "owner", at="fast"), Claim)

    run(steps)


# -- messages that are out of date -----------------------------------------------------------------


def test_stale_message_of_the_old_queue_starts_nothing(run):
    async def steps(at):
        call = await at.single()
        at.opens("fast")
        await at.sweeper.sweep()
        stale = await at.jobs.claim(call.job, 0, "old pool", at="fast")
        assert (stale.state, stale.model) == ("queued", "slow")
        claim = await at.jobs.claim(call.job, 0, "new pool", at="slow")
        assert (claim.attempt, claim.part.model) == (1, "slow")
        # Nor while it runs there.
        assert (await at.jobs.claim(call.job, 0, "old pool", at="fast")).state == "running"

    run(steps)


def test_message_of_a_call_that_waits_again_starts_nothing(run):
    async def steps(at):
        call = await at.single()
        await at.jobs.claim(call.job, 0, "owner", at="fast")
        await at.jobs.retry(call.job, 0, "owner", PartRecord(error="HTTP 503"))
        assert (await at.jobs.claim(call.job, 0, "again", at="fast")).state == "waiting"
        await at.ledger.mark_queued([Admitted(call, "fast")])
        assert (await at.jobs.claim(call.job, 0, "again", at="fast")).attempt == 2

    run(steps)


# -- deadlines -------------------------------------------------------------------------------------


def learned(at, **latencies):
    seconds, _ = at.store.time()
    for model, latency in latencies.items():
        at.store.hset(redis_keys.limiter(model), mapping={"lat": latency * 1000, "lat_at": seconds * 1000})


def test_late_call_moves_to_a_candidate_that_ends_it_in_time(run):
    async def steps(at):
        learned(at, fast=20.0, slow=2.0)
        # Four start at once, the next after 5, 10 … s, and each needs 20.
        first = [await at.single(deadline=28) for _ in range(5)]
        late = [await at.single(deadline=28)]
        lax = await at.single(deadline=300)
        none = await at.single()
        await at.sweeper.sweep()
        assert [(await at.part(call)).model for call in first] == ["fast"] * 5
        for call in late:
            part = await at.part(call)
            assert part.model == "slow"
            assert [(move.model, move.why) for move in part.moved] == [("fast", "deadline")]
        assert [(await at.part(call)).model for call in (lax, none)] == ["fast", "fast"]

    run(steps)


def test_call_that_is_late_everywhere_stays(run):
    async def steps(at):
        learned(at, fast=20.0, slow=40.0, third=1.0)
        calls = [await at.single(deadline=15) for _ in range(6)]
        await at.sweeper.sweep()
        assert at.queue("fast") == list(map(str, calls))

    run(steps)


def test_calls_that_move_together_count_as_load_of_their_target(run):
    async def steps(at):
        learned(at, fast=20.0, slow=5.0)
        calls = [await at.single(deadline=6) for _ in range(8)]
        await at.sweeper.sweep()
        # Four at once take 5 s each; the fifth would start after 1.25 s more.
        moved = [call for call in calls if (await at.part(call)).moved]
        assert moved == calls[:4]

    run(steps)


def test_waiting_bound_call_moves_for_its_deadline(run):
    async def steps(at):
        learned(at, fast=20.0, slow=2.0)
        for _ in range(8):
            await at.single()
        call = await at.waiting("fast", "slow", decision=decided("round_robin", "fast", "slow"), deadline=25)
        await at.sweeper.sweep()
        part = await at.part(call)
        assert (part.state, part.model) == ("queued", "slow")
        assert [(move.model, move.why) for move in part.moved] == [("fast", "deadline")]

    run(steps)


def test_deadlines_of_ended_jobs_are_removed(run):
    async def steps(at):
        learned(at, fast=20.0)
        for _ in range(5):
            await at.single()
        call = await at.single(deadline=30)
        await at.jobs.stop(call.job, "cancelled")
        await at.sweeper.sweep()
        assert at.store.zcard(redis_keys.DEADLINES) == 0

    run(steps)


# -- with real workers -----------------------------------------------------------------------------


def test_jobs_queued_at_a_model_whose_breaker_opens_run_once_elsewhere(tmp_path):
    models = {"shut": {"capacity": 10}, "good": {"capacity": 10}}
    routes = {"either": {"models": ["shut", "good"], "strategy": "round_robin"}}
    with (
        recorder({"shut": lambda _: Say(), "good": lambda _: Say(delay=0.05)}) as text_,
        fleet(
            tmp_path,
            models={name: {**model, "base_url": text_.url} for name, model in models.items()},
            simulations={"none": {}},
            routes=routes,
        ) as running,
        Finals(running) as finals,
    ):
        redis = running.redis
        running.start_all([("route,join", 2), ("model.good", 10)])
        # The good one is drained: all go to the other, which no worker serves yet.
        redis.hset(redis_keys.DRAINED, "good", 1)
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(20)])
        wait_for(lambda: redis.llen("model.shut") == 20, "the queue")
        stale = redis.lrange("model.shut", 0, -1)

        redis.hset(redis_keys.limiter("shut"), mapping={"open_until": 9e15, "why": "overloaded"})
        redis.hdel(redis_keys.DRAINED, "good")
        results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]

        assert Counter(result.state for result in results) == {"succeeded": 20}
        assert {(result.parts[0].model, result.parts[0].attempts) for result in results} == {("good", 1)}
        assert len(text_.of["good"].times) == 20
        command = [sys.executable, "-m", "ops", "explain", jobs[0].id]
        done = subprocess.run(command, env={**os.environ, **running.env}, capture_output=True, text=True, check=True)
        assert "moved from shut: breaker" in done.stdout

        # Messages of the old queue that turn up later do nothing: no model is asked, no job ends twice.
        redis.hdel(redis_keys.limiter("shut"), "open_until", "why")
        redis.lpush("model.shut", *stale)
        running.start("model.shut", 10)
        wait_for(lambda: redis.llen("model.shut") == 0, "the end of the queue")
        after = running.producer.submit({"text": "after", "model": "shut"})
        assert running.producer.wait(after.id, timeout=DEADLINE).state == "succeeded"
        assert (len(text_.of["shut"].times), len(text_.of["good"].times)) == (1, 20)
        assert {finals.of(job.id) for job in jobs} == {1}
        assert redis.zcard(redis_keys.claims("shut")) == 0


def test_message_of_the_old_queue_leaves_the_call_to_the_new_one(tmp_path):
    with (
        recorder({"old": lambda _: Say(), "new": lambda _: Say()}) as text_,
        fleet(
            tmp_path,
            models={name: {"capacity": 4, "base_url": text_.url} for name in ("old", "new")},
            simulations={"none": {}},
            routes={"either": {"models": ["old", "new"]}},
        ) as running,
    ):
        redis = running.redis
        running.start_all([("route,join", 2)])
        redis.hset(redis_keys.DRAINED, "new", 1)
        single = running.producer.submit({"text": "one"})
        fan_out = running.producer.submit({"kind": "sections", "items": ["a", "b", "c"]})
        wait_for(lambda: redis.llen("model.old") == 4, "the queue")
        stale = redis.lrange("model.old", 0, -1)
        redis.hset(redis_keys.DRAINED, "old", "move")
        redis.hdel(redis_keys.DRAINED, "new")
        wait_for(lambda: redis.llen("model.new") == 4, "the move")

        # The old pool's worker had reserved them: it gets to them before the new pool's does.
        redis.lpush("model.old", *stale)
        old = running.start("model.old", 4)
        wait_for(lambda: old.log.count("ignored") >= 4, "the end of the stale messages")
        running.start("model.new", 4)

        results = [running.producer.wait(job.id, timeout=DEADLINE) for job in (single, fan_out)]
        assert [result.state for result in results] == ["succeeded", "succeeded"]
        assert {part.model for result in results for part in result.parts} == {"new"}
        assert (len(text_.of["old"].times), len(text_.of["new"].times)) == (0, 4)
