"""A job's way over real parts: submit, route, call, join."""

from __future__ import annotations

import pytest

from tasks.contract.errors import BadInput
from tests.harness import DEADLINE, fleet

MODELS = {"fast": {"capacity": 4, "price": {"input": 1.0, "output": 2.0}}, "slow": {"capacity": 2}}
ROUTES = {
    "billing": {"keywords": ["invoice", "refund"], "prompt": "You answer billing questions.", "models": ["fast"]},
    "support": {"keywords": ["crash"], "models": ["fast", "slow"], "strategy": "round_robin"},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    simulations = {"fast": {"latency": 0.05}, "slow": {"latency": 0.1}}
    with fleet(
        tmp_path_factory.mktemp("fleet"), models=MODELS, simulations=simulations, routes=ROUTES, default_route="support"
    ) as running:
        running.start_all([("route,join", 4), ("model.fast", 4), ("model.slow", 2)])
        yield running


def test_single_job_goes_from_submit_to_its_result(running):
    accepted = running.producer.submit({"text": "I want a refund for this invoice"})
    assert accepted.state == "accepted"

    result = running.producer.wait(accepted.id, timeout=DEADLINE)

    assert result.state == "succeeded"
    assert result.output == "[simulated fast] I want a refund for this invoice"
    assert result.simulated
    assert result.routing.route == "billing"
    assert result.routing.model == "fast"
    (part,) = result.parts
    assert (part.state, part.model, part.attempts) == ("succeeded", "fast", 1)
    assert part.latency_s >= 0.05
    assert part.cost_usd == pytest.approx((part.usage.input_tokens + 2 * part.usage.output_tokens) / 1e6)
    assert result.cost_usd == part.cost_usd > 0


def test_model_named_by_the_producer_gets_the_job_and_no_route_s_prompt(running):
    job = running.producer.submit({"text": "I want a refund", "model": "slow"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.routing.classifier == "explicit"
    assert result.parts[0].model == "slow"


def test_route_named_by_the_producer_is_taken(running):
    job = running.producer.submit({"text": "hello", "model": "route:billing"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.routing.route, result.routing.classifier) == ("billing", "explicit")


def test_round_robin_takes_turns(running):
    jobs = running.producer.submit_many([{"text": f"crash {number}"} for number in range(6)])
    models = [running.producer.wait(job.id, timeout=DEADLINE).parts[0].model for job in jobs]
    assert sorted(models) == ["fast"] * 3 + ["slow"] * 3


def test_sections_are_joined_in_the_order_of_the_text(running):
    items = [f"item number {number}" for number in range(25)]
    job = running.producer.submit({"kind": "sections", "items": items, "model": "fast"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "succeeded"
    assert [part.state for part in result.parts] == ["succeeded"] * 25
    places = [result.output.index(item + "\n" if number < 24 else item) for number, item in enumerate(items)]
    assert places == sorted(places)


def test_vote_counts_the_answers(running):
    job = running.producer.submit({"kind": "vote", "text": "yes or no?", "n": 5, "early_stop": "off", "model": "fast"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "succeeded"
    assert result.output == "[simulated fast] yes or no?"
    assert result.details["votes"] == 5


def test_vote_that_is_decided_stops_early(running):
    before = running.stats("slow")["requests"]
    job = running.producer.submit({"kind": "vote", "text": "yes or no?", "n": 40, "model": "slow"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "succeeded"
    # 21 of 40 equal answers can't be caught; two more may have been running at that moment.
    assert 21 <= running.stats("slow")["requests"] - before <= 25
    assert sum(part.state == "succeeded" for part in result.parts) >= 21


def test_same_idempotency_key_is_the_same_job(running):
    request = {"text": "refund", "idempotency_key": "key-1"}
    first, second = running.producer.submit(request), running.producer.submit(request)
    assert first.id == second.id
    assert (first.new, second.new) == (True, False)
    with pytest.raises(BadInput, match="idempotency_key: was used for another request"):
        running.producer.submit({"text": "something else", "idempotency_key": "key-1"})


def test_id_that_is_another_job_s_is_refused_and_the_same_job_again_is_not(running):
    job = {"id": "0" * 25 + "1", "text": "refund"}
    assert running.producer.submit(job).new
    assert not running.producer.submit(job).new
    with pytest.raises(BadInput, match=r"id: '0{25}1' is another job's"):
        running.producer.submit({**job, "text": "something else"})


def test_messages_and_logs_show_no_text(running):
    secret = "xyzzy-secret-prompt"
    job = running.producer.submit({"kind": "sections", "items": [secret] * 3, "prompt": secret, "model": "fast"})
    assert running.producer.wait(job.id, timeout=DEADLINE).state == "succeeded"
    assert all(secret not in worker.log for worker in running.workers)
    redis = running.redis
    for key in redis.scan_iter("*"):
        if not key.startswith("pm:"):
            assert secret not in str(_everything(redis, key)), key


def _everything(redis, key):
    kind = redis.type(key)
    readers = {
        "string": redis.get,
        "list": lambda name: redis.lrange(name, 0, -1),
        "hash": redis.hgetall,
        "zset": lambda name: redis.zrange(name, 0, -1),
        "set": redis.smembers,
        "none": lambda _: None,  # gone since it was listed: the index of what is not acknowledged, when all is
    }
    return readers[kind](key)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"text": "  "}, "text: is empty"),
        ({}, "text: exactly one of text, messages, items and files is needed"),
        ({"text": "x", "model": "nope"}, "model: 'nope' is not known; allowed: auto, fast, route:billing"),
        ({"text": "x", "route": "nope"}, "route: 'nope' is not known; allowed: billing, support"),
        ({"text": "x", "kind": "legal_review"}, "kind: 'legal_review' is not known; allowed: sections, single, vote"),
        (
            {"text": "x", "kind": "sections", "split": "chapters"},
            "split: 'chapters' is not known; allowed: ",
        ),
        ({"text": "x", "strategy": "best"}, "strategy: 'best' is not a strategy; allowed: adaptive"),
        ({"text": "x", "webhook": "http://127.0.0.1/"}, "webhook: is not supported by this version"),
        ({"text": "x" * 9_000_000}, "text: the job has 9,000"),
        ({"text": "x", "colour": "red"}, "colour: is not a field of a job"),
    ],
)
def test_bad_job_names_the_field_and_the_remedy(running, request_, problem):
    with pytest.raises(BadInput) as caught:
        running.producer.submit(request_)
    assert str(caught.value).startswith(problem)
