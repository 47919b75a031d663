"""The race of two attempts, with clients that answer when they are told to."""

from __future__ import annotations

import asyncio

import pytest

from tasks.calling.attempt import Attempt
from tasks.calling.hedge import race
from tasks.config.models import Hedge, Model
from tasks.contract.errors import BadRequest, Overloaded, TimedOut
from tasks.contract.job import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from tasks.ledger.limiter import Grant
from tasks.routing.latency_statistics import FEWEST, LatencyStatistics

MODEL = Model(provider="simulated", price={"input": 10})
REQUEST = ModelRequest("m", (Message(role="user", content="hi"),), timeout=30)
REPLY = ModelReply("hi", Usage(input_tokens=100))


def attempt(name, *, hedge=False, wait_s=0.0, timeout=30.0, model=MODEL):
    grant = Grant(name, name, "", wait_s, 10, 0.5, "1", probe=False, mean_output=1.0)
    request = ModelRequest("m", REQUEST.messages, timeout=timeout)
    return Attempt(grant, request, model, hedge=hedge)


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


async def start(*, after=0.0, rival="b", **more):
    """A race whose second may start at once; its clients, and the attempts."""
    clients, first = Clients(), attempt("a", **more)
    second = attempt(rival, hedge=True) if rival else None

    async def take():
        return second

    running = asyncio.ensure_future(race(first, clients, after=after, second=take))
    await clients.of("a").asked.wait()
    return running, clients, first, second


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_the_first_answer_wins_and_the_other_call_is_broken_off():
    async def steps(winner, loser):
        running, clients, *attempts = await start()
        await clients.of("b").asked.wait()
        clients.of(winner).answer.set_result(REPLY)
        won = await running
        assert won.grant.model == winner
        assert clients.of(loser).cancelled
        lost = next(other for other in attempts if other is not won)
        assert (won.outcome, lost.outcome) == ("ok", "cancelled")
        # What was broken off may be billed: it costs what was booked for it.
        assert (won.cost_usd, lost.cost_usd) == (pytest.approx(0.001), 0.5)

    run(steps("a", "b"))
    run(steps("b", "a"))


def test_a_first_call_that_answers_in_time_is_not_raced():
    async def steps():
        running, clients, first, second = await start(after=60)
        clients.of("a").answer.set_result(REPLY)
        assert await running is first
        assert not clients.of("b").asked.is_set()
        assert second.outcome == "unasked"
        assert second.cost_usd == 0

    run(steps())


def test_a_hedge_that_is_not_granted_leaves_the_first_alone():
    async def steps():
        running, clients, first, _ = await start(rival=None)
        clients.of("a").answer.set_result(REPLY)
        assert await running is first

    run(steps())


def test_a_failure_of_one_waits_for_the_other_and_the_failure_of_both_is_that_of_the_first():
    async def steps(last):
        running, clients, first, second = await start()
        await clients.of("b").asked.wait()
        clients.of("a").answer.set_exception(Overloaded("a", "503"))
        clients.of("b").answer.set_result(last) if last else clients.of("b").answer.set_exception(BadRequest("b", "no"))
        assert await running is (second if last else first)
        assert first.outcome == "fault"
        assert second.outcome == ("ok" if last else "neutral")

    run(steps(REPLY))
    run(steps(None))


def test_a_race_that_is_cancelled_closes_both_calls():
    async def steps():
        running, clients, *attempts = await start()
        await clients.of("b").asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert clients.of("a").cancelled
        assert clients.of("b").cancelled
        assert {item.outcome for item in attempts} == {"cancelled"}

    run(steps())


def test_a_call_that_lasts_too_long_is_a_fault_of_the_model_and_a_mistake_of_ours_is_not():
    async def steps():
        running, clients, first, _ = await start(after=None, timeout=9, model=Model(provider="simulated", timeout=9))
        clients.of("a").answer.set_exception(TimedOut("a", "did not answer within 9 s"))
        assert await running is first
        assert (first.outcome, first.error.code) == ("fault", "timed_out")
        running, clients, first, _ = await start(after=None)
        clients.of("a").answer.set_exception(ZeroDivisionError())
        await running
        assert first.outcome == "cancelled"
        assert "ZeroDivisionError" in str(first.error)

    run(steps())


def test_hedge_delay_is_the_95th_percentile_of_the_latest_calls():
    latencies, hedge = LatencyStatistics(), Hedge()
    for number in range(FEWEST - 1):
        latencies.record("m", float(number))
    assert latencies.hedge_delay("m", hedge) is None
    for number in range(400):
        latencies.record("m", 1.0 + number % 100)
    assert latencies.hedge_delay("m", hedge) == 96.0
    assert latencies.hedge_delay("m", Hedge(after=2)) == 2.0
    assert latencies.hedge_delay("m", None) is None
