"""Attempts become log lines and metrics; nothing a stranger says becomes a label."""

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
from tasks.contract.result import Usage
from tasks.contract.telemetry import AttemptEvent
from worker.loop_lag import BOUNDS_MS, measure_loop_lag, quantile
from worker.metrics import Metrics, metrics_address, serve_metrics
from worker.telemetry import AttemptLog, Hooks, logs_all_attempts

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
    """What is logged: (level, event, fields)."""
    logging.getLogger("pointsman.attempts").setLevel(logging.INFO)
    with structlog.testing.capture_logs() as captured:
        yield captured
    logging.getLogger("pointsman.attempts").setLevel(logging.NOTSET)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_an_attempt_that_succeeded_is_counted_with_its_tokens_and_cost(metrics):
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


def test_durations_are_seconds_in_the_buckets_of_opentelemetry(metrics):
    metrics.attempt(an_attempt(latency_s=0.3, queue_wait_s=0.05, first_byte_s=None))
    name = "pointsman_attempt_duration_seconds"
    assert value(metrics, f"{name}_sum", model="fast") == pytest.approx(0.3)
    assert value(metrics, f"{name}_bucket", model="fast", le="0.16") == 0
    assert value(metrics, f"{name}_bucket", model="fast", le="0.32") == 1
    assert value(metrics, f"{name}_bucket", model="fast", le="81.92") == 1
    assert value(metrics, "pointsman_queue_wait_seconds_count", model="fast") == 1
    assert value(metrics, "pointsman_first_byte_seconds_count", model="fast") == 0


def test_a_retry_and_a_hedge_are_counted(metrics):
    metrics.attempt(an_attempt(outcome="failed", error="overloaded", status=503, retry_in_s=2.0))
    metrics.attempt(an_attempt(hedge=True))
    assert value(metrics, "pointsman_retries_total", model="fast") == 1
    assert value(metrics, "pointsman_hedges_total", model="fast") == 1
    labels = {"model": "fast", "provider": "openai", "outcome": "failed", "error": "overloaded"}
    assert value(metrics, "pointsman_attempts_total", **labels) == 1


def test_what_is_not_known_beforehand_is_other(metrics):
    for number in range(50):
        metrics.attempt(
            an_attempt(model=f"m{number}", provider=f"p{number}", outcome="failed", error=f"no such word {number}")
        )
    labels = {"model": "other", "provider": "other", "outcome": "failed", "error": "other"}
    assert value(metrics, "pointsman_attempts_total", **labels) == 50
    series = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert {sample.labels["model"] for sample in series if "model" in sample.labels} == {"other"}


def test_no_metric_names_a_job_and_all_names_begin_with_the_same_word(metrics):
    metrics.attempt(an_attempt())
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert all(sample.name.startswith("pointsman_") for sample in samples)
    assert not any("job-1" in sample.labels.values() for sample in samples)


def test_calls_in_flight_are_asked_for_when_they_are_read(metrics):
    assert value(metrics, "pointsman_calls_in_flight") == 7


def test_a_success_is_told_as_info_and_a_failure_as_warning(lines):
    AttemptLog(all_attempts=True).attempt(an_attempt())
    AttemptLog(all_attempts=True).attempt(
        an_attempt(outcome="failed", error="rate_limited", status=429, retry_in_s=1.23456)
    )
    AttemptLog(all_attempts=True).attempt(an_attempt(outcome="cancelled"))
    told = [(line["log_level"], line["event"]) for line in lines]
    assert told == [("info", "attempt.succeeded"), ("warning", "attempt.failed"), ("info", "attempt.cancelled")]
    assert lines[0]["job"] == "job-1"
    assert (lines[0]["input_tokens"], lines[0]["output_tokens"]) == (12, 5)
    assert (lines[1]["error"], lines[1]["status"], lines[1]["retry_in_s"]) == ("rate_limited", 429, 1.235)
    assert "error" not in lines[0]


def test_where_info_is_not_logged_a_success_makes_no_line(lines):
    logging.getLogger("pointsman.attempts").setLevel(logging.WARNING)
    AttemptLog(all_attempts=True).attempt(an_attempt())
    AttemptLog(all_attempts=True).attempt(an_attempt(outcome="failed", error="overloaded"))
    assert [line["event"] for line in lines] == ["attempt.failed"]


def test_unless_everything_is_asked_for_only_failures_make_a_line(lines):
    AttemptLog().attempt(an_attempt())
    AttemptLog().attempt(an_attempt(outcome="failed", error="overloaded"))
    assert [line["event"] for line in lines] == ["attempt.failed"]


def test_what_is_logged_is_said_by_the_environment(monkeypatch):
    monkeypatch.delenv("POINTSMAN_LOG_ATTEMPTS", raising=False)
    assert not logs_all_attempts()
    monkeypatch.setenv("POINTSMAN_LOG_ATTEMPTS", "all")
    assert logs_all_attempts()
    monkeypatch.setenv("POINTSMAN_LOG_ATTEMPTS", "some")
    with pytest.raises(ConfigError, match="POINTSMAN_LOG_ATTEMPTS: must be all or failed"):
        logs_all_attempts()


def test_a_consumer_that_fails_is_logged_and_the_others_are_told(lines, metrics):
    class Broken:
        def attempt(self, _event):
            raise RuntimeError("out of order")

    Hooks((Broken(), metrics)).attempt(an_attempt())
    assert [(line["event"], line["hook"]) for line in lines] == [("telemetry.hook_failed", "Broken")]
    assert value(metrics, "pointsman_attempt_duration_seconds_count", model="fast") == 1


@pytest.mark.parametrize("port", ["http", "-1", "65536", "9 0", "٣"])
def test_a_port_that_is_none_is_refused(monkeypatch, port):
    monkeypatch.setenv("POINTSMAN_METRICS_PORT", port)
    with pytest.raises(ConfigError, match="POINTSMAN_METRICS_PORT: must be a port"):
        metrics_address()


def test_without_a_port_nothing_is_served(monkeypatch, metrics):
    monkeypatch.delenv("POINTSMAN_METRICS_PORT", raising=False)
    assert metrics_address() is None
    serve_metrics(metrics)()


def test_metrics_are_served_on_loopback_and_the_file_says_where(monkeypatch, metrics, tmp_path):
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


def test_a_port_in_use_is_told_and_harms_no_work(monkeypatch, metrics, lines):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("POINTSMAN_METRICS_PORT", str(taken.getsockname()[1]))
        serve_metrics(metrics)()
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("metrics.not_served", "warning")
    assert "POINTSMAN_METRICS_PORT" in line["remedy"]


def test_a_quantile_is_the_bound_that_so_many_measurements_stay_below():
    counts = [0] * (len(BOUNDS_MS) + 1)
    counts[0], counts[10], counts[20] = 50, 49, 1
    assert quantile(counts, 0.5) == BOUNDS_MS[0]
    assert quantile(counts, 0.99) == BOUNDS_MS[10]
    assert quantile(counts, 1.0) == BOUNDS_MS[20]
    assert quantile([0] * len(counts), 0.5) == 0.0
    assert quantile([*[0] * len(BOUNDS_MS), 1], 0.5) == float("inf")


def test_a_loop_that_is_held_up_shows_in_the_file(tmp_path):
    file = tmp_path / "lag.json"

    async def hold_up() -> None:
        probe = asyncio.ensure_future(measure_loop_lag(file))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.2
        while loop.time() < end:  # the loop gets no turn
            pass
        await asyncio.sleep(0.05)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

    asyncio.run(hold_up())
    found = json.loads(file.read_text())
    assert found["max_ms"] >= 150
    assert found["samples"] == sum(found["counts"]) >= 1
    assert quantile(found["counts"], 1.0) >= found["max_ms"]
