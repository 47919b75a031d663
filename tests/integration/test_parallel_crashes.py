"""A process may die between any two of its round trips: whatever it leaves half done, the sweeper sets going again.

The steps run here by hand, over a real ledger. A run without a crash says how many round trips there are and what comes
of it; then one dies at each of them, its message is lost with it, and the job must come to the same end.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from types import SimpleNamespace

import pytest
import redis
import yaml

from tasks.contract.job import CallId, parse_job
from tasks.contract.result import FINAL
from tasks.fanout import fan_out
from tasks.finish_part import copy_result
from tasks.join import join_job
from tasks.ledger import Claim, Ledger, PartRecord
from tasks.ledger.fleet import _PREFIX
from tasks.loading.load import load
from tasks.queue.publisher import Publisher
from tasks.route import route_job
from tasks.workflows.voting import read_ballot
from tests import redis_keys
from worker.rebalancer import Rebalancer
from worker.sweeper import Sweeper

MODELS = ("fast", "slow")
FLOW = {
    "description": "One that fails and may, one that is left out, and a vote.",
    "input": "text",
    "steps": [
        {"name": "first", "job": {"route": "r"}},
        {"name": "bonus", "optional": True, "input": "fail {{ steps.first }}", "job": {"route": "r"}},
        {"name": "never", "when": "steps.bonus", "job": {"route": "r"}},
        {"name": "last", "input": "{{ steps.first }}", "job": {"kind": "vote", "n": 3, "route": "r"}},
    ],
}
PLAN = json.dumps({"sections": [{"title": "one", "brief": "a"}, {"title": "two", "brief": "b"}]})
SHAPES = {
    "sections": {"kind": "sections", "items": ["a", "b", "c"], "route": "r"},
    "voted sections": {"kind": "sections", "items": ["a", "b"], "each": {"kind": "vote", "n": 3}, "route": "r"},
    "sections routed for themselves": {"kind": "sections", "items": ["a", "fail b"], "each": {}, "policy": "partial",
                                       "route": "r", "budget_usd": 1.0},
    "vote in waves": {"kind": "vote", "text": "which?", "n": 5, "prefer": "cost", "route": "r"},
    "synthesis": {"kind": "sections", "items": ["a", "b"], "join": "synthesis", "route": "r"},
    "plan": {"kind": "sections", "text": "all", "split": "plan", "join": "synthesis", "route": "r"},
    "workflow": {"kind": "flow", "text": "hello"},
}  # fmt: skip


class Died(BaseException):
    """This process, at this moment."""


class Broker(Publisher):
    """Messages, and the chords that count them. A chord that was never opened has no callback."""

    def __init__(self, died):
        self._died = died
        self.messages = deque()
        self._sizes, self._ended = {}, {}

    async def send_routes(self, jobs):
        self._died()
        self.messages += [("route", job) for job, _ in jobs]

    async def send_fanout(self, job, *, wave=0):
        self._died()
        self.messages.append(("fanout", job, wave))

    async def send_calls(self, admitted):
        self._died()
        self.messages += [("call", call) for call, _ in admitted]

    async def send_chord(self, job, wave, calls, *, size=None):
        self._died()
        self._sizes[job, wave] = len(calls) if size is None else size
        self.messages += [("call", CallId(job, index, wave)) for index, _ in calls]

    async def send_join(self, job, *, wave=0):  # noqa: ARG002 - as the publisher has it
        self._died()
        self.messages.append(("join", job))

    async def send_finish_parts(self, parts):
        self._died()
        self.messages += [("settle", part) for part in parts]

    def counted(self, part):
        """A part's message has ended: the last of a chord sends its callback."""
        ended = self._ended.setdefault((part.job, part.wave), set())
        ended.add(part.index)
        if len(ended) == self._sizes.get((part.job, part.wave)):
            self.messages.append(("join", part.job))


class Place:
    def __init__(self, ledger, store, config, *, dies_at):
        self.ledger, self.store, self.config = ledger, store, config
        self.trips, self.dies_at, self._mortal = 0, dies_at, False
        self.broker = Broker(self._died)
        self.ports = SimpleNamespace(config=config, ledger=ledger, publisher=self.broker, predictor=None)
        self.sweeper = Sweeper(ledger, self.broker, Rebalancer(ledger, config))
        self.asked = Counter()
        run = ledger.store.run

        async def counted(*commands):
            self._died()
            return await run(*commands)

        ledger.store.run = counted

    def _died(self):
        if self._mortal:
            self.trips += 1
            if self.trips == self.dies_at:
                raise Died

    async def mortal(self, step):
        """Whether this step lived to its end."""
        self._mortal = True
        try:
            await step
        except Died:
            return False
        finally:
            self._mortal = False
        return True

    async def work(self, *kinds):
        """All messages, and those that come of them; only of these kinds, where some are named."""
        while self.broker.messages and (not kinds or self.broker.messages[0][0] in kinds):
            kind, *arguments = self.broker.messages.popleft()
            step = getattr(self, f"_{kind}")(*arguments)
            await (step if kind == "call" else self.mortal(step))

    async def _route(self, job):
        await route_job(self.ports, job)

    async def _fanout(self, job, wave):
        await fan_out(self.ports, job, wave)

    async def _join(self, job):
        await join_job(self.ports, job)

    async def _settle(self, part):
        if await copy_result(self.ports, part) is not None:
            self.broker.counted(part)

    async def _call(self, call):
        claim = await self.ledger.jobs.claim(call.job, call.index, "worker")
        if isinstance(claim, Claim):
            self.asked[call] += 1
            text = claim.part.text or claim.job.text or ""
            plans = claim.part.bare and "You plan" in (claim.part.prompt or "")
            output = None if text.startswith("fail") else PLAN if plans else f"<{text}>"
            ballot, weight = "", 1.0
            if output is not None:
                ballot, weight = read_ballot(self.config, claim.job, "r", claim.part.model, output)
            record = PartRecord(
                cost_usd=0.01, spent_usd=0.01, error="no" if output is None else None, ballot=ballot, weight=weight
            )
            outcome, admitted = await self.ledger.settle(call, claim.part.model, "worker", output=output, record=record)
            if admitted:
                await self.broker.send_calls(admitted)
            if outcome.word == "complete" and outcome.detail != "all":
                await self.broker.send_join(call.job)
            if outcome.word == "ended" and claim.job.parent is not None:
                await self.broker.send_finish_parts([CallId.parse(claim.job.parent.part)])
        if call.wave is not None:
            self.broker.counted(call)

    def jobs(self):
        return [key[4:-1] for key in self.store.keys(redis_keys.job("*"))]

    def states(self):
        return {job: self.store.hget(redis_keys.job(job), "state") for job in self.jobs()}

    async def time_passes(self):
        """The sweeper looks at every job, and at every call that does not run; leases of joins have lapsed."""
        for job in self.jobs():
            name = redis_keys.job(job)
            if self.store.hget(name, "state") == "joining":
                self.store.hset(name, "joining_at", 1)
        await self._lapse()
        await self.ledger.fleet.watch(dict.fromkeys(self.jobs(), -1.0))
        # Once to find what stands nowhere, once to send it.
        await self.sweeper.sweep()
        await self.sweeper.sweep()

    async def _lapse(self):
        """Every lease has had its time: nothing runs while this does."""
        for model in MODELS:
            for kind in ("single", "part"):
                key = f"{_PREFIX}{kind}:{model}"
                for call in self.store.zrange(key, 0, -1):
                    self.store.zadd(key, {call: 1})

    async def end(self, job):
        await self.work()
        for _ in range(12):
            if FINAL.issuperset(self.states().values()):
                break
            await self.time_passes()
            await self.work()
        return await self.ledger.views.result(job)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    (folder / "flow").mkdir()
    (folder / "flow" / "workflow.yaml").write_text(yaml.safe_dump(FLOW))
    settings = {
        "models": {name: {"provider": "simulated", "capacity": 100} for name in MODELS},
        "routes": {"r": {"models": list(MODELS), "strategy": "least_connections"}},
        "default_route": "r",
        "workflows": {"flow": "./flow"},
    }
    (folder / "pointsman.yaml").write_text(yaml.safe_dump(settings))
    return load(folder / "pointsman.yaml")


@pytest.fixture
def run(server, config):
    """Run a coroutine function at a place where a process dies at this round trip, 0: nowhere."""
    with redis.Redis.from_url(server.url, decode_responses=True) as store, asyncio.Runner() as runner:

        async def call(function, dies_at):
            store.flushdb()
            ledger = Ledger(server.url, MODELS)
            try:
                await ledger.fleet.configure(dict.fromkeys(MODELS, 100))
                await ledger.store.run(ledger.fleet.serve("process", MODELS))
                return await function(Place(ledger, store, config, dies_at=dies_at))
            finally:
                await ledger.close()

        yield lambda function, dies_at=0: runner.run(call(function, dies_at))


async def submitted(at, shape):
    job = parse_job(SHAPES[shape])
    await at.ledger.accept([job], keep_seconds=3600)
    at.broker.messages.append(("route", job.id))
    return job.id


def summarize(result):
    parts = [(part.state, part.title, part.output, part.error) for part in result.parts]
    return result.state, result.output, result.error, parts, result.cost_usd


@pytest.mark.parametrize("shape", SHAPES)
def test_job_ends_alike_wherever_a_process_dies(run, shape):
    async def life(at):
        result = await at.end(await submitted(at, shape))
        return at, summarize(result), at.states()

    clean, expected, everything = run(life)
    assert expected[0] == "succeeded"
    assert clean.trips > 10
    for dies_at in range(1, clean.trips + 1):
        at, came, states = run(life, dies_at)
        assert came == expected, f"died at {dies_at} of {clean.trips}"
        assert FINAL.issuperset(states.values()), f"died at {dies_at}: {states}"
        assert len(states) == len(everything), f"died at {dies_at}"
        assert set(at.asked.values()) == {1}, f"died at {dies_at}"


@pytest.mark.parametrize("shape", ["voted sections", "sections routed for themselves", "workflow"])
def test_child_jobs_end_with_their_parent_wherever_the_canceller_dies(run, shape):
    async def life(at):
        at.dies_at, dies_at = 0, at.dies_at
        job = await submitted(at, shape)
        await at.work("route", "fanout")
        assert len(at.jobs()) > 1
        at.trips, at.dies_at = 0, dies_at
        lived = await at.mortal(at.ledger.cancel(job, "cancelled", "so it is"))
        before = at.states()
        await at.time_passes()
        return lived, before.pop(job), at.states()

    for dies_at in range(1, 50):
        lived, state, states = run(life, dies_at)
        if state == "cancelled":
            assert set(states.values()) == {"cancelled"}, f"died at {dies_at}"
        if lived:
            break
    assert lived
    assert state == "cancelled"
    assert dies_at > 3
