"""Attempts become log lines and metrics; no text from outside becomes a label."""

import asyncio
import json
import logging
import socket
from dataclasses import replace
from typing import Any
from urllib.request import urlopen

import pytest
import structlog

from tasks.contract.errors import ConfigError
from tasks.contract.model_client import AttemptEvent
from tasks.contract.result import Usage
from worker.loop import BOUNDS_MS, measure_loop_lag, quantile
from worker.telemetry import AttemptLog, Hooks, Metrics, logs_all_attempts, metrics_address, serve_metrics

AN_ATTEMPT = AttemptEvent(
    job="job-1",
    index=2,
    number=1,
    model="fast",
    provider="openai",
    route="billing",
    outcome="succeeded",
    latency_s=0.3,
    queue_wait_s=0.05,
    first_byte_s=0.1,
    usage=Usage(input_tokens=12, output_tokens=5, cached_tokens=4, reasoning_tokens=2),
    cost_usd=0.25,
)


def an_attempt(**changes: Any) -> AttemptEvent:
    return replace(AN_ATTEMPT, **changes)


@pytest.fixture
def metrics():
    return Metrics(("fast", "slow"), in_flight=lambda: 7)


@pytest.fixture
def lines(monkeypatch):
    """The logged lines: (level, event, fields)."""
    logging.getLogger("pointsman.attempts").setLevel(logging.INFO)
    with structlog.testing.capture_logs() as captured:
        yield captured
    logging.getLogger("pointsman.attempts").setLevel(logging.NOTSET)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_metrics_count_a_succeeded_attempt_with_its_tokens_and_cost(metrics):
    metrics.attempt(an_attempt())
    metrics.attempt(an_attempt())
    labels = {"model": "fast", "provider": "openai", "outcome": "succeeded", "error": ""}
    assert value(metrics, "pointsman_attempts_total", **labels) == 2
    tokens = {
        kind: value(metrics, "pointsman_tokens_total", model="fast", type=kind)
        for kind in ("input", "cached", "output", "reasoning")
    }
    assert tokens == {"input": 24, "cached": 8, "output": 10, "reasoning": 4}
    assert value(metrics, "pointsman_cost_usd_total", model="fast") == 0.5


def test_metrics_have_durations_in_the_buckets_of_opentelemetry(metrics):
    metrics.attempt(an_attempt(latency_s=0.3, queue_wait_s=0.05, first_byte_s=None))
    name = "pointsman_attempt_duration_seconds"
    assert value(metrics, f"{name}_sum", model="fast") == pytest.approx(0.3)
    assert value(metrics, f"{name}_bucket", model="fast", le="0.16") == 0
    assert value(metrics, f"{name}_bucket", model="fast", le="0.32") == 1
    assert value(metrics, f"{name}_bucket", model="fast", le="81.92") == 1
    assert value(metrics, "pointsman_queue_wait_seconds_count", model="fast") == 1
    assert value(metrics, "pointsman_first_byte_seconds_count", model="fast") == 0


def test_metrics_count_retries_and_hedges(metrics):
    metrics.attempt(an_attempt(outcome="failed", error="overloaded", status=503, retry_in_s=2.0))
    metrics.attempt(an_attempt(hedge=True))
    assert value(metrics, "pointsman_retries_total", model="fast") == 1
    assert value(metrics, "pointsman_hedges_total", model="fast") == 1
    labels = {"model": "fast", "provider": "openai", "outcome": "failed", "error": "overloaded"}
    assert value(metrics, "pointsman_attempts_total", **labels) == 1


def test_metrics_label_unknown_models_providers_and_errors_as_other(metrics):
    for number in range(50):
        metrics.attempt(
            an_attempt(model=f"m{number}", provider=f"p{number}", outcome="failed", error=f"no such word {number}")
        )
    labels = {"model": "other", "provider": "other", "outcome": "failed", "error": "other"}
    assert value(metrics, "pointsman_attempts_total", **labels) == 50
    series = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert {sample.labels["model"] for sample in series if "model" in sample.labels} == {"other"}


def test_metrics_have_one_prefix_and_name_no_job(metrics):
    metrics.attempt(an_attempt())
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert all(sample.name.startswith("pointsman_") for sample in samples)
    assert not any("job-1" in sample.labels.values() for sample in samples)


def test_metrics_read_calls_in_flight_when_they_are_collected(metrics):
    assert value(metrics, "pointsman_calls_in_flight") == 7


def test_attempt_log_writes_successes_as_info_and_failures_as_warning(lines):
    AttemptLog(all_attempts=True).attempt(an_attempt())
    AttemptLog(all_attempts=True).attempt(
        an_attempt(outcome="failed", error="rate_limited", status=429, retry_in_s=1.23456)
    )
    AttemptLog(all_attempts=True).attempt(an_attempt(outcome="cancelled"))
    logged = [(line["log_level"], line["event"]) for line in lines]
    assert logged == [("info", "attempt.succeeded"), ("warning", "attempt.failed"), ("info", "attempt.cancelled")]
    assert lines[0]["job"] == "job-1"
    assert (lines[0]["input_tokens"], lines[0]["output_tokens"]) == (12, 5)
    assert (lines[1]["error"], lines[1]["status"], lines[1]["retry_in_s"]) == ("rate_limited", 429, 1.235)
    assert "error" not in lines[0]


def test_attempt_log_skips_successes_where_info_is_not_logged(lines):
    logging.getLogger("pointsman.attempts").setLevel(logging.WARNING)
    AttemptLog(all_attempts=True).attempt(an_attempt())
    AttemptLog(all_attempts=True).attempt(an_attempt(outcome="failed", error="overloaded"))
    assert [line["event"] for line in lines] == ["attempt.failed"]


def test_attempt_log_writes_only_failures_by_default(lines):
    AttemptLog().attempt(an_attempt())
    AttemptLog().attempt(an_attempt(outcome="failed", error="overloaded"))
    assert [line["event"] for line in lines] == ["attempt.failed"]


def test_logs_all_attempts_reads_the_environment(monkeypatch):
    monkeypatch.delenv("POINTSMAN_LOG_ATTEMPTS", raising=False)
    assert not logs_all_attempts()
    monkeypatch.setenv("POINTSMAN_LOG_ATTEMPTS", "all")
    assert logs_all_attempts()
    monkeypatch.setenv("POINTSMAN_LOG_ATTEMPTS", "some")
    with pytest.raises(ConfigError, match="POINTSMAN_LOG_ATTEMPTS: must be all or failed"):
        logs_all_attempts()


def test_hooks_log_a_failing_hook_and_call_the_others(lines, metrics):
    class Broken:
        def attempt(self, _event):
            raise RuntimeError("out of order")

    Hooks((Broken(), metrics)).attempt(an_attempt())
    assert [(line["event"], line["hook"]) for line in lines] == [("telemetry.hook_failed", "Broken")]
    assert value(metrics, "pointsman_attempt_duration_seconds_count", model="fast") == 1


@pytest.mark.parametrize("port", ["http", "-1", "65536", "9 0", "٣"])
def test_metrics_address_refuses_an_invalid_port(monkeypatch, port):
    monkeypatch.setenv("POINTSMAN_METRICS_PORT", port)
    with pytest.raises(ConfigError, match="POINTSMAN_METRICS_PORT: must be a port"):
        metrics_address()


def test_serve_metrics_without_a_port_serves_nothing(monkeypatch, metrics):
    monkeypatch.delenv("POINTSMAN_METRICS_PORT", raising=False)
    assert metrics_address() is None
    serve_metrics(metrics)()


def test_serve_metrics_listens_on_loopback_and_writes_its_url(monkeypatch, metrics, tmp_path):
    monkeypatch.setenv("POINTSMAN_METRICS_PORT", "0")
    monkeypatch.setenv("POINTSMAN_METRICS_FILE", str(tmp_path / "url"))
    end = serve_metrics(metrics)
    try:
        url = (tmp_path / "url").read_text().strip()
        assert url.startswith("http://127.0.0.1:")
        with urlopen(url, timeout=10) as answer:
            assert b"pointsman_calls_in_flight 7.0" in answer.read()
    finally:
        end()


def test_serve_metrics_logs_a_port_in_use_and_goes_on(monkeypatch, metrics, lines):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("POINTSMAN_METRICS_PORT", str(taken.getsockname()[1]))
        serve_metrics(metrics)()
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("metrics.not_served", "warning")
    assert "POINTSMAN_METRICS_PORT" in line["remedy"]


def test_quantile_of_loop_lag_is_a_bound_of_the_histogram():
    counts = [0] * (len(BOUNDS_MS) + 1)
    counts[0], counts[10], counts[20] = 50, 49, 1
    assert quantile(counts, 0.5) == BOUNDS_MS[0]
    assert quantile(counts, 0.99) == BOUNDS_MS[10]
    assert quantile(counts, 1.0) == BOUNDS_MS[20]
    assert quantile([0] * len(counts), 0.5) == 0.0
    assert quantile([*[0] * len(BOUNDS_MS), 1], 0.5) == float("inf")


def test_loop_lag_of_a_blocked_loop_is_written_to_the_file(tmp_path):
    file = tmp_path / "lag.json"

    async def hold_up() -> None:
        probe = asyncio.ensure_future(measure_loop_lag(file))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.2
        while loop.time() < end:  # blocks the loop
            pass
        await asyncio.sleep(0.05)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

    asyncio.run(hold_up())
    found = json.loads(file.read_text())
    assert found["max_ms"] >= 150
    assert found["samples"] == sum(found["counts"]) >= 1
    assert quantile(found["counts"], 1.0) >= found["max_ms"]
