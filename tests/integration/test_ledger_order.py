"""Whatever the order of the steps, a job ends once and its counts agree."""

from __future__ import annotations

import asyncio
from typing import Any

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tasks.contract.job import Job, parse_job
from tasks.contract.result import FINAL
from tasks.ledger import WAVE, Ledger, PartRecord, StagePlan
from tasks.parallel.early_stop import StopRule
from tasks.parallel.part_spec import PartSpec
from tests import redis_keys
from tests.ledger_jobs import (
    DECISION,
    KEEP,
    MODELS,
    finish,
    state_of,
)


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
            # Each is ended under the name of its job, and never claimed.
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
    @rule(index=indexes, owner=owners)
    def claim(self, index, owner):
        self.do(self.ledger.jobs.claim(self.job, index if self.parts > 1 else 0, owner))

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
        # Of the parts themselves; what becomes of a join's questions is reported apart.
        assert int(record["failed"]) == stored[:3].count("failed")
        for index, output in self.written.items():
            assert result.parts[index].output == output

    @invariant()
    def time_to_live_is_set_at_the_end_alone(self):
        for key in self.store.keys(redis_keys.all_of_job(self.job)):
            assert (self.store.pttl(key) > 0) == (self.ended_as is not None)


def test_steps_in_any_order_end_a_job_once_with_counts_that_agree(server, store):
    here = type("Steps", (Steps,), {"url": server.url, "store": store})
    run_state_machine_as_test(here, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))
