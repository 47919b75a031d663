"""Every reply of tests/wire through a real worker: what becomes of its job, and whether the model stays open to others.

Each reply has a model of its own, and a route to it that falls back to a good model. A job to the route shows that the
next candidate is asked; a job to the model itself shows how often it is tried.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests import redis_keys
from tests.harness import DEADLINE, fleet, wait_for
from tests.providers.serving import serve
from tests.wire import SCHEMA, Replaying, WireReply, hostile, whole_replies

REPLIES = whole_replies()
PRICE = {"input": 10.0, "cached": 1.0, "output": 100.0}
#: The job ends with the error of its first model: the same input would fail everywhere, or none is better suited.
FINAL = {"bad_request", "content_refused"}
#: Faults of a request; a firewall that answers 403 may have read the prompt.
OF_A_REQUEST = FINAL | {"context_too_long", "model_unsuited", "no_answer", "connection_failed"}
HOSTILE = [f"hostile-{name}" for name in (*hostile.ANSWERS, *hostile.FAILURES)]
#: These cost time, and no attempt.
FREE = {"rate_limited", "quota_exhausted"}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with ExitStack() as stack:
        url = stack.enter_context(serve(Replaying()))
        models = {
            reply.model: {
                "provider": reply.provider,
                "base_url": f"{url}/v1" if reply.provider == "openai" else url,
                "api_key_env": "TEST_KEY",
                "capacity": 2,
                "attempts": 2,
                "price": PRICE,
            }
            for reply in REPLIES
        }
        models["good"] = {"base_url": f"{url}/v1", "capacity": 20}
        # Its breaker opens at the second failure that counts; every job names the reply that it gets.
        models["shared"] = {"base_url": f"{url}/v1", "capacity": 4, "attempts": 1, "breaker": {"attempts": 2}}
        dear = {"price": {"input": 1000, "output": 1000}, "budget_usd_per_day": 0.02}
        models["uncounted"] = {"base_url": f"{url}/v1", "model": "openai-usage-missing", "capacity": 1, **dear}
        for name in HOSTILE:
            models[name] = {"base_url": f"{url}/v1", "capacity": 2, "attempts": 1, "price": PRICE}
        routes = {reply.model: {"models": [reply.model], "fallbacks": ["good"]} for reply in REPLIES}
        folder = tmp_path_factory.mktemp("fleet")
        running = stack.enter_context(fleet(folder, models=models, simulations={"none": {}}, routes=routes))
        queues = ",".join(["route", "join", *(f"model.{name}" for name in models)])
        running.start(queues, 20, env={"TEST_KEY": "sk-test"})
        yield running


@pytest.fixture(scope="module")
def results(running):
    """The result of one job to the route of each reply, all sent at once."""
    return submit_all(running, "route", REPLIES)


@pytest.fixture(scope="module")
def named(running, results):
    """The result of one job to each model itself, after those of the routes; not to those that cost no attempt."""
    return submit_all(running, "model", [reply for reply in REPLIES if reply.open and reply.error not in FREE])


def submit_all(running, field, replies):
    schema = {True: {"response_schema": SCHEMA}, False: {}}
    requests = [{"text": "my secret text", field: reply.model, **schema[reply.schema]} for reply in replies]
    jobs = running.producer.submit_many(requests)
    return {
        reply.model: running.producer.wait(job.id, timeout=DEADLINE) for reply, job in zip(replies, jobs, strict=True)
    }


def cost(usage: list[int]) -> float:
    given, output, cached, _ = usage
    return ((given - cached) * PRICE["input"] + cached * PRICE["cached"] + output * PRICE["output"]) / 1e6


def check_tried(reply: WireReply, part) -> None:
    first, *others = part.tried
    assert (first.model, first.error) == (reply.model, reply.error or None)
    if reply.error in FREE:
        assert (first.attempts, first.throttled > 0) == (0, True)
    else:
        assert first.attempts == 1
    assert [(item.model, item.error) for item in others] == ([("good", None)] if part.model == "good" else [])


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.model)
def test_reply_decides_the_job_and_leaves_the_model_open(running, results, reply):
    result = results[reply.model]
    (part,) = result.parts
    check_tried(reply, part)
    if not reply.error:
        assert (result.state, result.output, part.model) == ("succeeded", reply.answer, reply.model)
    elif reply.error in FINAL:
        assert result.state == "failed"
        assert reply.says in result.error
        assert "secret" not in result.error
    else:
        assert (result.state, result.output, part.model) == ("succeeded", "good", "good")
    if reply.usage is not None:
        assert part.cost_usd == pytest.approx(cost(reply.usage))
    if reply.estimated:
        assert part.cost_usd > 0
        assert part.usage.estimated is not bool(reply.error)
    is_open = running.redis.hget(redis_keys.limiter(reply.model), "open_until") is None
    assert is_open is reply.open


@pytest.mark.parametrize(
    "reply", [reply for reply in REPLIES if reply.open and reply.error not in FREE], ids=lambda reply: reply.model
)
def test_reply_of_a_named_model_is_tried_as_often_as_it_can_help(named, reply):
    result = named[reply.model]
    (part,) = result.parts
    assert (result.state, part.attempts) == ("failed" if reply.error else "succeeded", reply.attempts)
    (tried,) = part.tried
    assert (tried.model, tried.error) == (reply.model, reply.error or None)
    if reply.error:
        assert reply.says in result.error
        assert "secret" not in result.error
    if reply.usage is not None:
        assert part.cost_usd == pytest.approx(cost(reply.usage) * reply.attempts)


def test_requests_of_one_caller_close_no_model_for_others(running):
    names = [reply.model for reply in REPLIES if reply.provider == "openai" and reply.error in OF_A_REQUEST]
    assert len(names) > 40
    jobs = running.producer.submit_many([{"text": name, "model": "shared"} for name in names])
    states = [running.producer.wait(job.id, timeout=DEADLINE).state for job in jobs]
    assert set(states) == {"failed"}
    assert running.redis.hget(redis_keys.limiter("shared"), "open_until") is None
    harmless = running.producer.submit({"text": "hello", "model": "shared"})
    assert running.producer.wait(harmless.id, timeout=DEADLINE).output == "good"


def test_hostile_replies_end_their_jobs_and_not_the_worker(running):
    # Not for ever: some of these ask for another try.
    jobs = running.producer.submit_many([{"text": "x", "model": name, "retry_seconds": 1} for name in HOSTILE])
    results = dict(zip(HOSTILE, [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs], strict=True))
    for name, result in results.items():
        plain = name.removeprefix("hostile-")
        if plain in hostile.ANSWERS:
            assert (result.state, result.output) == ("succeeded", hostile.TEXTS.get(plain, "Fair.")), name
            assert 0 < result.cost_usd < 1000
        else:
            assert (result.state, bool(result.error)) == ("failed", True), name
    (worker,) = running.workers
    assert worker.process.poll() is None


def test_answers_without_usage_fill_the_budget_by_their_estimate(running):
    request = {"text": "x", "model": "uncounted", "max_tokens": 4}
    jobs = running.producer.submit_many([request] * 10)
    first = running.producer.wait(jobs[0].id, timeout=DEADLINE)
    assert (first.state, first.usage.estimated) == ("succeeded", True)
    assert first.cost_usd == pytest.approx((first.usage.input_tokens + first.usage.output_tokens) / 1000)
    wait_for(lambda: running.redis.hget(redis_keys.limiter("uncounted"), "spent_day"), "the end of the budget")
    done = [job for job in jobs if running.producer.result(job.id).state == "succeeded"]
    assert len(done) < 5
    spent = float(running.redis.hget(redis_keys.limiter("uncounted"), "usd")) / 1e6
    assert spent == pytest.approx(len(done) * first.cost_usd)
    for job in jobs:
        running.producer.cancel(job.id)
