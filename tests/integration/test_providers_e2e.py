"""Jobs to each provider's API, from the producer to the result: real worker processes, servers that speak the API."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from tests import redis_keys
from tests.harness import DEADLINE, fleet, wait_for
from tests.providers.anthropic import Anthropic
from tests.providers.asking import SCHEMA
from tests.providers.gemini import Gemini
from tests.providers.openai import TEXT, OpenAI
from tests.providers.serving import serve

ADA = {"name": "Ada", "age": 36}
#: USD for a million tokens; what is cached costs a tenth.
PRICE = {"input": 10.0, "output": 100.0, "cached": 1.0}


def model(provider, case, **fields):
    return {"provider": provider, "model": case, "api_key_env": "TEST_KEY", "capacity": 4, "price": PRICE, **fields}


MODELS = {
    "chat": model("openai", "ok"),
    "claude": model("anthropic", "ok"),
    "flash": model("gemini", "ok"),
    "spent": model("openai", "quota"),
    "mended": model("openai", "json-repaired"),
    "stubborn": model("openai", "json-never", attempts=2),
    "chat-mute": model("openai", "never"),
    "claude-mute": model("anthropic", "never"),
    "flash-mute": model("gemini", "never"),
    "claude-json": model("anthropic", "json"),
    "flash-json": model("gemini", "json"),
}
ROUTES = {
    "moving": {"models": ["spent", "claude"], "strategy": "round_robin"},
    "forms": {"models": ["stubborn", "claude-json"], "strategy": "round_robin"},
}


@pytest.fixture(scope="module")
def providers():
    return {"openai": OpenAI(), "anthropic": Anthropic(), "gemini": Gemini()}


@pytest.fixture(scope="module")
def running(tmp_path_factory, providers):
    with ExitStack() as stack:
        urls = {name: stack.enter_context(serve(app)) for name, app in providers.items()}
        urls["openai"] += "/v1"
        models = {name: {**fields, "base_url": urls[fields["provider"]]} for name, fields in MODELS.items()}
        folder = tmp_path_factory.mktemp("fleet")
        running = stack.enter_context(fleet(folder, models=models, simulations={"none": {}}, routes=ROUTES))
        queues = ",".join(f"model.{name}" for name in MODELS)
        running.start("route,join", wait=False)
        running.start(queues, 20, wait=False, env={"TEST_KEY": "sk-test"})
        for worker in running.workers:
            worker.wait_until_ready()
        yield running


def ended(running, **request):
    return running.producer.wait(running.producer.submit({"text": "my secret text", **request}).id, timeout=DEADLINE)


def asked(provider, case):
    """The requests of a provider for one of its models."""
    return [request for request in provider.requests if case in {request.body.get("model"), _path_model(request)}]


def _path_model(request):
    return request.path.partition("/models/")[2].partition(":")[0]


def attempts(running, job):
    """The telemetry events of a job's attempts, as the worker logged them."""
    lines = running.workers[1].log.splitlines()
    return [line for line in lines if job in line and "attempt." in line]


@pytest.mark.parametrize(
    ("name", "usage", "cost"),
    [
        ("chat", (22, 12, 16, 8), (6 * 10 + 16 * 1 + 12 * 100) / 1e6),
        ("claude", (22, 20, 7, 9), (15 * 10 + 7 * 1 + 20 * 100) / 1e6),
        ("flash", (30, 17, 20, 6), (10 * 10 + 20 * 1 + 17 * 100) / 1e6),
    ],
)
def test_answer_has_its_tokens_its_cost_and_its_finish_reason(running, name, usage, cost):
    result = ended(running, model=name)
    assert (result.state, result.output) == ("succeeded", TEXT)
    used = result.usage
    assert (used.input_tokens, used.output_tokens, used.cached_tokens, used.reasoning_tokens) == usage
    assert result.cost_usd == pytest.approx(cost)
    (line,) = attempts(running, result.id)
    assert "attempt.succeeded" in line
    assert "stop" in line
    assert "secret" not in line


@pytest.mark.parametrize("name", ["mended", "claude-json", "flash-json"])
def test_answer_by_a_schema_is_json_that_satisfies_it(running, name):
    result = ended(running, model=name, response_schema=SCHEMA)
    assert (result.state, json.loads(result.output)) == ("succeeded", ADA)
    assert result.parts[0].attempts == 1


def test_wrong_answer_is_repaired_within_its_attempt_and_both_are_paid(running, providers):
    before = len(asked(providers["openai"], "json-repaired"))
    result = ended(running, model="mended", response_schema=SCHEMA)
    assert len(asked(providers["openai"], "json-repaired")) - before == 2
    assert (result.usage.input_tokens, result.usage.output_tokens) == (44, 24)
    assert result.cost_usd == pytest.approx(2 * (6 * 10 + 16 * 1 + 12 * 100) / 1e6)


def test_answer_that_is_wrong_twice_is_retried_then_fails_and_is_paid(running, providers):
    before = len(asked(providers["openai"], "json-never"))
    result = ended(running, model="stubborn", response_schema=SCHEMA)
    assert result.state == "failed"
    (tried,) = result.parts[0].tried
    assert (tried.model, tried.attempts, tried.error) == ("stubborn", 2, "schema_mismatch")
    assert "does not satisfy response_schema at required" in result.error
    assert "after 2 of 2 attempts" in result.error
    assert "secret" not in result.error
    assert len(asked(providers["openai"], "json-never")) - before == 4
    assert result.cost_usd == pytest.approx(4 * (6 * 10 + 16 * 1 + 12 * 100) / 1e6)
    spent = running.redis.hget(redis_keys.limiter("stubborn"), "usd")
    assert float(spent) / 1e6 >= result.cost_usd
    # The job's own budget knows of it, too.
    assert float(running.redis.hget(redis_keys.job(result.id), "spent")) == pytest.approx(result.cost_usd)
    assert len(attempts(running, result.id)) == 2
    assert all("cost_usd" in line for line in attempts(running, result.id))


def test_model_that_misses_the_schema_gives_way_to_another_provider_s(running):
    results = [ended(running, route="forms", response_schema=SCHEMA) for _ in range(2)]
    assert {(result.state, result.parts[0].model) for result in results} == {("succeeded", "claude-json")}
    assert [json.loads(result.output) for result in results] == [ADA, ADA]
    # In turn: one of the two went to the stubborn one first.
    moved = [result for result in results if len(result.parts[0].tried) == 2]
    assert [tried.error for tried in moved[0].parts[0].tried] == ["schema_mismatch", None]
    assert moved[0].parts[0].cost_usd == pytest.approx(
        # Asked, and asked to mend it; then the other's turn came.
        (2 * (6 * 10 + 16 * 1 + 12 * 100) + (15 * 10 + 7 * 1 + 20 * 100)) / 1e6
    )


def test_spent_quota_gives_way_to_another_provider_and_the_result_says_so(running):
    results = [ended(running, route="moving") for _ in range(2)]
    assert {(result.state, result.parts[0].model) for result in results} == {("succeeded", "claude")}
    moved = next(result for result in results if len(result.parts[0].tried) == 2)
    tried = [(item.model, item.error) for item in moved.parts[0].tried]
    assert tried == [("spent", "quota_exhausted"), ("claude", None)]
    assert moved.parts[0].attempts == 2

    shown = pointsman(running, "explain", moved.id)
    assert re.search(r"^spent .* failed: quota_exhausted$", shown, re.MULTILINE)
    assert re.search(r"^claude .* chosen$", shown, re.MULTILINE)
    assert "spent: quota_exhausted; claude: answered" in shown
    assert "quota_exhausted" in pointsman(running, "models")


@pytest.mark.parametrize("name", ["chat-mute", "claude-mute", "flash-mute"])
def test_cancelling_a_running_job_closes_its_provider_s_connection(running, providers, name):
    provider = providers[MODELS[name]["provider"]]
    provider.left.clear()
    before = len(asked(provider, "never"))
    job = running.producer.submit({"text": "x", "model": name})
    wait_for(lambda: len(asked(provider, "never")) > before, "the call")
    assert not provider.left.is_set()
    began = time.monotonic()
    assert running.producer.cancel(job.id)
    assert provider.left.wait(DEADLINE)
    assert time.monotonic() - began < 6
    assert running.producer.result(job.id).state == "cancelled"


def pointsman(running, *words):
    environment = {**os.environ, **running.env, "COLUMNS": "160"}
    command = [sys.executable, "-m", "ops", *words]
    return subprocess.run(command, env=environment, capture_output=True, timeout=DEADLINE, check=True, text=True).stdout
