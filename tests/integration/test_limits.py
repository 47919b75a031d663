"""Limits, breakers, failover, budgets and hedges with real worker processes and a model that counts who comes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

import pytest

from tasks.contract.errors import BadInput
from tests import redis_keys
from tests.harness import DEADLINE, fleet, wait_for
from tests.recorder import Say, recorder

#: When the model `spent` has credit again: it says so itself.
SPENT_FOR = 4
REFILL = 3


def _stormy(asked: int) -> Say:
    return Say(status=429, headers={"Retry-After": str(REFILL)}) if asked < 4 else Say(delay=0.02)


_refusing: list[float] = []


def _spent(asked: int) -> Say:
    if asked == 0:
        _refusing.append(time.monotonic())
    if time.monotonic() < _refusing[0] + SPENT_FOR:
        return Say(status=402, headers={"Retry-After": str(SPENT_FOR)})
    return Say(delay=0.3)


def _lazy(asked: int) -> Say:
    return Say(delay=20.0 if asked % 40 == 39 else 0.01)


ANSWERS = {
    "paced": lambda _: Say(delay=0.05),
    "stormy": _stormy,
    "calm": lambda _: Say(delay=0.02),
    "spent": _spent,
    "spare": lambda _: Say(delay=0.02),
    "broken": lambda _: Say(status=500),
    "gone": lambda _: Say(status=404),
    "dear": lambda _: Say(tokens=(1000, 1000)),
    "billed": lambda _: Say(tokens=(20, 1000)),
    "frugal": lambda _: Say(tokens=(20, 100), delay=0.1),
    "trickling": lambda _: Say(delay=0.01),
    "cheap": lambda _: Say(delay=0.01),
    "lazy": _lazy,
    "second": lambda _: Say(delay=0.01),
    "dawdling": lambda asked: Say(delay=2.0 if asked % 5 == 4 else 0.02),
    "narrow": lambda _: Say(delay=0.2),
}
MODELS = {
    "paced": {"capacity": 60, "rpm": 600},
    "stormy": {"capacity": 4},
    "calm": {"capacity": 8},
    "spent": {"capacity": 3},
    "spare": {"capacity": 8},
    "broken": {"capacity": 2, "attempts": 2},
    "gone": {"capacity": 2},
    "dear": {"capacity": 4, "price": {"input": 1, "output": 9}, "budget_usd_per_day": 0.02, "max_tokens": 1000},
    "billed": {"capacity": 4, "price": {"input": 1, "output": 9}, "max_tokens": 1000},
    "frugal": {"capacity": 4, "price": {"input": 1, "output": 9}, "max_tokens": 1000},
    "trickling": {"capacity": 4, "rpm": 1},
    "cheap": {"capacity": 4},
    "lazy": {"capacity": 8, "hedge": {"after": 0.5, "budget": 0.05}, "timeout": 30},
    "second": {"capacity": 8},
    "dawdling": {"capacity": 20, "hedge": {"after": 0.4, "budget": 0.05}},
    "narrow": {"capacity": 2},
}
ROUTES = {
    "spending": {"models": ["spent", "spare"], "strategy": "round_robin"},
    "failing": {"models": ["broken", "gone", "spare"], "strategy": "round_robin"},
    "hopeless": {"models": ["broken", "gone"], "strategy": "round_robin"},
    "paying": {"models": ["dear", "cheap"], "strategy": "round_robin"},
    "hedging": {"models": ["lazy", "second"], "strategy": "round_robin"},
}


@pytest.fixture(scope="module")
def models():
    with recorder(ANSWERS) as recording:
        yield recording


@pytest.fixture(scope="module")
def running(tmp_path_factory, models):
    configured = {name: {"base_url": models.url, **model} for name, model in MODELS.items()}
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, models=configured, simulations={"none": {}}, routes=ROUTES) as running:
        rest = ",".join(f"model.{name}" for name in MODELS if name != "paced")
        running.start_all([("route,join", 8), ("model.paced", 40), ("model.paced", 40), (rest, 40), (rest, 40)])
        yield running


def limiter_of(running, model):
    return running.redis.hgetall(redis_keys.limiter(model))


def results(running, jobs, *, timeout=DEADLINE):
    return [running.producer.wait(job.id, timeout=timeout) for job in jobs]


def test_600_requests_a_minute_are_kept_and_used_by_all_processes(running, models):
    seconds, burst, step = 20.0, 24, 60 / (600 - 24 + 1)
    allowed = burst + math.floor(seconds / step)
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "paced"} for number in range(300)])
    times = models.of["paced"].times
    wait_for(lambda: times and time.monotonic() > times[0] + seconds + 0.5, "the stretch")
    came = sum(1 for at in times if at < times[0] + seconds)
    for job in jobs:
        running.producer.cancel(job.id)
    # On a busy machine the first request may be late at the server: the stretch then begins late. `make soak` is exact.
    assert 0.95 * allowed <= came <= 1.03 * allowed
    # Calls that wait for the rate are no attempts, and they don't stand in slots.
    done = [result for result in results(running, jobs) if result.state == "succeeded"]
    assert {result.parts[0].attempts for result in done} == {1}
    # Calls that were cancelled while they ran or waited for their moment gave back what they had taken.
    wait_for(lambda: running.redis.zcard(redis_keys.leases("paced")) == 0, "the end of all leases", within=4)


def test_429_with_retry_after_pauses_the_whole_model_and_no_other(running, models):
    limited = running.producer.submit_many([{"text": f"{number}", "model": "stormy"} for number in range(12)])
    wait_for(lambda: models.of["stormy"].times, "the first call")
    began = time.monotonic()
    calm = running.producer.submit_many([{"text": f"{number}", "model": "calm"} for number in range(30)])
    assert {result.state for result in results(running, calm)} == {"succeeded"}
    assert time.monotonic() - began < 20
    ended = results(running, limited)
    assert {result.state for result in ended} == {"succeeded"}
    times = models.of["stormy"].times
    # Those that were under way at the first 429 could not know of it; no other call came before the pause had ended.
    early = [at for at in times[4:] if at < times[0] + REFILL]
    assert early == []
    # A rate limit costs time, not tries: three attempts would not have been enough for four refusals.
    throttled = [tried for result in ended for tried in result.parts[0].tried if tried.throttled]
    assert sum(tried.throttled for tried in throttled) == 4
    assert {tried.attempts for tried in throttled} == {1}


def test_spent_quota_opens_the_breaker_and_moves_the_calls(running, models):
    first = running.producer.submit_many([{"text": f"{number}", "route": "spending"} for number in range(30)])
    ended = results(running, first)
    assert {result.state for result in ended} == {"succeeded"}
    assert {result.parts[0].model for result in ended} == {"spare"}
    assert 1 <= len(models.of["spent"].times) <= 3  # as many as were under way at once
    state = limiter_of(running, "spent")
    assert state["why"] == "quota_exhausted"
    # Jobs for that model alone wait until it half-opens, then one goes ahead.
    asked = len(models.of["spent"].times)
    alone = running.producer.submit_many([{"text": f"{number}", "model": "spent"} for number in range(6)])
    ended = results(running, alone)
    assert {result.state for result in ended} == {"succeeded"}
    times = models.of["spent"].times
    assert times[asked] >= times[0] + SPENT_FOR
    assert times[asked + 1] - times[asked] >= 0.3  # the answer to the probe came first


def test_failed_call_moves_on_and_the_result_lists_the_tried_models(running):
    jobs = running.producer.submit_many([{"text": f"{number}", "route": "failing"} for number in range(6)])
    ended = results(running, jobs)
    assert {(result.state, result.parts[0].model) for result in ended} == {("succeeded", "spare")}
    for result in ended:
        *failed, last = result.parts[0].tried
        assert (last.model, last.attempts, last.error) == ("spare", 1, None)
        for tried in failed:
            # Its candidates are as good as one another: none is asked twice before all were asked once.
            assert (tried.model, tried.attempts, tried.error) in {
                ("broken", 1, "overloaded"),
                ("gone", 1, "model_not_found"),
            }


def test_part_without_candidates_left_fails_with_every_reason(running):
    # The breaker of "gone" may be open by now: then it is not asked, and the job would wait for it.
    running.redis.delete(redis_keys.limiter("gone"))
    job = running.producer.submit({"text": "x", "route": "hopeless"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "failed"
    assert "no model is left" in result.error
    assert "broken: overloaded after 2" in result.error
    assert "gone: model_not_found after 1" in result.error


def test_max_attempts_and_retry_seconds_bound_a_part(running):
    job = running.producer.submit({"text": "x", "model": "broken", "max_attempts": 1})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, result.parts[0].attempts) == ("failed", 1)
    assert "1 of 1 attempts" in result.error
    job = running.producer.submit({"text": "x", "model": "broken", "retry_seconds": 0})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, result.parts[0].attempts) == ("failed", 1)
    assert "its time for retries is over" in result.error


def test_job_does_not_spend_more_than_its_budget(running):
    with pytest.raises(BadInput, match=r"budget_usd: is \$0.005, and the least estimate, with model 'dear'"):
        running.producer.submit({"text": "x", "model": "dear", "budget_usd": 0.005})
    with pytest.raises(
        BadInput, match=r"model: 'dear' has a budget_usd_per_day of \$0.02, and one call is estimated at"
    ):
        running.producer.submit({"text": "x", "model": "dear", "max_tokens": 5000})
    # What costs nothing fits into every budget.
    request = {"kind": "vote", "text": "x", "n": 3, "model": "cheap", "budget_usd": 0.005, "policy": "partial"}
    assert running.producer.wait(running.producer.submit(request).id, timeout=DEADLINE).state == "succeeded"
    # Four calls of up to $0.009 each, for $0.02: two fit at a time, and they cost $0.009 and a bit.
    request = {"kind": "vote", "text": "x", "n": 4, "model": "billed", "budget_usd": 0.02, "policy": "partial"}
    result = running.producer.wait(running.producer.submit({**request, "early_stop": "off"}).id, timeout=DEADLINE)
    assert result.state == "succeeded"
    assert 1 <= sum(part.state == "succeeded" for part in result.parts) <= 2
    assert result.cost_usd <= 0.02
    failed = [part for part in result.parts if part.state == "failed"]
    assert all("budget_usd $0.02" in part.error for part in failed)
    # Their model was never asked.
    assert {part.attempts for part in failed} == {0}


def test_bookings_of_a_job_s_calls_in_flight_make_others_wait(running):
    # Four calls of up to $0.009 each, for $0.02: two fit at a time, and they cost a tenth of it.
    request = {"kind": "vote", "text": "x", "n": 4, "model": "frugal", "budget_usd": 0.02, "early_stop": "off"}
    result = running.producer.wait(running.producer.submit(request).id, timeout=DEADLINE)
    assert (result.state, {part.state for part in result.parts}) == ("succeeded", {"succeeded"})
    assert {part.attempts for part in result.parts} == {1}
    assert result.cost_usd == pytest.approx(4 * 920e-6)


def test_expired_job_names_the_limit_that_it_waited_for(running):
    first, second = running.producer.submit_many([{"text": "x", "model": "trickling"}] * 2)
    assert running.producer.wait(first.id, timeout=DEADLINE).state == "succeeded"
    running.producer.cancel(second.id)
    job = running.producer.submit({"text": "x", "model": "trickling", "deadline": 1})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "expired"
    assert "model 'trickling' has to wait: its requests of this minute (rpm) are used up" in result.error
    assert result.parts[0].attempts == 0


def test_model_with_a_spent_day_budget_is_closed_and_the_next_works(running, models):
    before = len(models.of["dear"].times)
    jobs = running.producer.submit_many([{"text": f"{number}", "route": "paying"} for number in range(12)])
    ended = results(running, jobs)
    assert {result.state for result in ended} == {"succeeded"}
    dear = [result for result in ended if result.parts[0].model == "dear"]
    assert len(dear) == len(models.of["dear"].times) - before == 2
    assert [result.cost_usd for result in dear] == pytest.approx([0.01, 0.01])
    assert float(limiter_of(running, "dear")["usd"]) == pytest.approx(0.02 * 1e6)
    job = running.producer.submit({"text": "x", "model": "dear", "deadline": 1})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "expired"
    assert "model 'dear' has to wait: its budget of the day is used up" in result.error
    assert result.parts[0].attempts == 0


def test_capacity_bounds_processes_that_have_more_slots(running, models):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "narrow"} for number in range(20)])
    assert {result.state for result in results(running, jobs)} == {"succeeded"}
    assert models.of["narrow"].peak == 2


def test_slow_call_is_hedged_by_the_next_model_within_the_budget(running, models):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "lazy"} for number in range(38)])
    assert {result.state for result in results(running, jobs)} == {"succeeded"}
    assert len(models.of["lazy"].times) == 38
    began = time.monotonic()
    # One of the next two is the one that dawdles.
    jobs = running.producer.submit_many(
        [{"text": f"{number}", "route": "hedging", "strategy": "round_robin"} for number in range(4)]
    )
    ended = results(running, jobs)
    assert time.monotonic() - began < 15
    hedged = [result.parts[0] for result in ended if result.parts[0].attempts == 2]
    assert len(hedged) == 1
    assert (hedged[0].model, hedged[0].output) == ("second", "from second")
    wait_for(lambda: models.of["lazy"].broken == 1, "the end of the slow call")
    # All leases were given back, the loser's too.
    assert running.redis.zcard(redis_keys.leases("lazy")) == 0
    assert running.redis.zcard(redis_keys.leases("second")) == 0
    assert len(models.of["second"].times) <= 2 + 1


def test_hedges_stay_within_their_budget_however_many_are_slow(running, models):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "dawdling"} for number in range(200)])
    ended = results(running, jobs)
    assert {result.state for result in ended} == {"succeeded"}
    hedged = sum(result.parts[0].attempts - 1 for result in ended)
    assert 1 <= hedged <= 0.05 * 200
    assert len(models.of["dawdling"].times) <= 200 + hedged


def test_list_of_models_shows_breakers_and_the_use_of_limits(running):
    running.redis.hset(redis_keys.limiter("calm"), mapping={"open_until": 9e15, "why": "overloaded"})
    running.producer.wait(running.producer.submit({"text": "x", "model": "cheap"}).id, timeout=DEADLINE)
    command = [sys.executable, "-m", "ops", "models"]
    environment = {**os.environ, **running.env, "COLUMNS": "160"}

    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, timeout=DEADLINE, check=True)
    now = {model["name"]: model["now"] for model in json.loads(done.stdout)}
    assert (now["calm"]["breaker"], now["calm"]["why"]) == ("open", "overloaded")
    assert now["cheap"]["breaker"] == "closed"
    assert now["cheap"]["most"] == MODELS["cheap"]["capacity"]
    assert now["cheap"]["requests"] >= 1

    shown = subprocess.run(
        command, env=environment, capture_output=True, timeout=DEADLINE, check=True, text=True
    ).stdout
    assert "(overloaded)" in shown
    running.redis.hdel(redis_keys.limiter("calm"), "open_until", "why")
