"""Hedging: the race of a run's two attempts, with clients that answer when the test lets them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tasks.calling.attempt import Attempt
from tasks.calling.hedge import race
from tasks.calling.run import Run
from tasks.config.models import Hedge, Model
from tasks.contract.errors import BadRequest, Overloaded, TimedOut, Unreachable
from tasks.contract.job import CallId, Job
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Candidate, Decision, Usage
from tasks.ledger import Claim
from tasks.ledger.limiter import Denied, Grant
from tasks.parallel.part_spec import PartSpec
from tasks.routing.model_statistics import FEWEST, LatencyStatistics

REPLY = ModelReply("hi", Usage(input_tokens=100))


class Client:
    def __init__(self):
        self.asked = asyncio.Event()
        self.answer = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def complete(self, request):  # noqa: ARG002 - a ModelClient
        self.asked.set()
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Clients:
    def __init__(self):
        self.made = {}

    def of(self, model):
        return self.made.setdefault(model, Client())


class Limiter:
    """Grants hedges, denies them, or is away."""

    def __init__(self, answer):
        self.answer = answer
        self.demands = []
        self.asked = asyncio.Event()

    async def acquire(self, demand, *, horizon):
        self.demands.append((demand.id, demand.model, demand.payer, horizon))
        self.asked.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(demand) if callable(self.answer) else self.answer


def granted(demand_or_name):
    name = getattr(demand_or_name, "model", demand_or_name)
    return Grant(name, name, "", 0.0, 10, 0.5, probe=False, mean_output=1.0)


class Race:
    """A race for a part whose candidates are `models`; its hedge starts at once."""

    def __init__(self, *, limiter=granted, models=("a", "b"), delay=0.0):
        self.clients = Clients()
        self.limiter = Limiter(limiter)
        settings = {name: Model(provider="simulated", price={"input": 10}) for name in models}
        candidates = tuple(Candidate(model=name) for name in models)
        decision = Decision(route="", classifier="", confidence=1.0, strategy="", candidates=candidates)
        ports = SimpleNamespace(
            clients=self.clients,
            config=SimpleNamespace(models=settings, all_routes={}),
            ledger=SimpleNamespace(limiter=self.limiter),
        )
        claim = Claim(1, PartSpec("a"), Job(text="hi"), decision, queue_wait_s=0.0, time_left_s=None)
        self.run = Run(ports, CallId("j", 0), "me:1", claim)
        self.first = self.run._attempt(granted("a"), self.run._request("a"))
        self.racing = asyncio.ensure_future(race(self.first, delay, self.clients, self.run._acquire_hedge))

    async def asked(self, *models):
        for model in models:
            await self.clients.of(model).asked.wait()

    def answer(self, model, value):
        future = self.clients.of(model).answer
        future.set_exception(value) if isinstance(value, Exception) else future.set_result(value)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


@pytest.mark.parametrize(("winner", "loser"), [("a", "b"), ("b", "a")])
def test_race_returns_the_first_answer_and_cancels_the_other_attempt(winner, loser):
    async def steps():
        race = Race()
        await race.asked("a", "b")
        race.answer(winner, REPLY)
        won = await race.racing
        assert won.grant.model == winner
        assert race.clients.of(loser).cancelled
        (lost,) = [attempt for attempt in race.run.attempts if attempt is not won]
        assert (won.outcome, lost.outcome) == ("ok", "cancelled")
        # A cancelled attempt may be billed: it costs what was booked for it.
        assert (won.cost_usd, lost.cost_usd) == (pytest.approx(0.001), 0.5)

    run(steps())


def test_race_sends_no_hedge_when_the_first_attempt_answers_in_time():
    async def steps():
        race = Race(delay=60)
        await race.asked("a")
        race.answer("a", REPLY)
        assert await race.racing is race.first
        assert race.limiter.demands == []

    run(steps())


def test_hedge_goes_to_another_candidate_and_is_paid_by_the_first_model():
    async def steps(*models):
        race = Race(models=models)
        await race.asked(models[-1])
        await race.limiter.asked.wait()
        race.answer(models[-1], REPLY)
        await race.racing
        return race.limiter.demands

    assert run(steps("a", "b")) == [("me:1h", "b", "a", 0.0)]
    # Without another candidate the same model is asked a second time.
    assert run(steps("a")) == [("me:1h", "a", "a", 0.0)]


@pytest.mark.parametrize("answer", [Denied("hedges"), Unreachable("away")])
def test_hedge_that_is_not_granted_leaves_the_first_attempt_alone(answer):
    async def steps():
        race = Race(limiter=answer)
        await race.asked("a")
        await race.limiter.asked.wait()
        race.answer("a", REPLY)
        assert await race.racing is race.first
        assert race.run.attempts == [race.first]

    run(steps())


@pytest.mark.parametrize("last", [REPLY, BadRequest("b", "no")])
def test_race_waits_for_the_second_attempt_when_the_first_fails(last):
    async def steps():
        race = Race()
        await race.asked("a", "b")
        race.answer("a", Overloaded("a", "503"))
        race.answer("b", last)
        ended = await race.racing
        first, second = race.run.attempts
        assert ended is (second if last is REPLY else first)
        assert first.outcome == "fault"
        assert second.outcome == ("ok" if last is REPLY else "neutral")

    run(steps())


def test_race_that_is_cancelled_cancels_both_attempts():
    async def steps():
        race = Race()
        await race.asked("a", "b")
        race.racing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await race.racing
        assert race.clients.of("a").cancelled
        assert race.clients.of("b").cancelled
        assert {attempt.outcome for attempt in race.run.attempts} == {"cancelled"}

    run(steps())


def test_attempt_that_times_out_is_a_fault_and_our_own_error_is_not():
    async def steps(problem):
        clients = Clients()
        request = ModelRequest("m", (Message(role="user", content="hi"),), timeout=9)
        attempt = Attempt(granted("a"), request, Model(provider="simulated", timeout=9))
        clients.of("a").answer.set_exception(problem)
        await attempt.send(clients)
        return attempt

    late = run(steps(TimedOut("a", "did not answer within 9 s")))
    assert (late.outcome, late.error.code) == ("fault", "timed_out")
    broken = run(steps(ZeroDivisionError()))
    assert broken.outcome == "cancelled"
    assert "ZeroDivisionError" in str(broken.error)


def test_hedge_delay_of_p95_needs_some_calls_and_forgets_old_ones():
    latencies, hedge = LatencyStatistics(), Hedge()
    for number in range(FEWEST - 1):
        latencies.record("m", float(number))
    assert latencies.hedge_delay("m", hedge) is None
    for number in range(400):
        latencies.record("m", 1.0 + number % 100)
    assert latencies.hedge_delay("m", hedge) == 96.0
    assert latencies.hedge_delay("m", Hedge(after=2)) == 2.0
