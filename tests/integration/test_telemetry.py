"""A worker's metrics and its log after real calls."""

from __future__ import annotations

import re
from urllib.request import urlopen

from tests.harness import DEADLINE, fleet, wait_for

MODELS = {
    "fast": {"capacity": 4, "price": {"input": 1.0, "output": 2.0}},
    "broken": {"capacity": 2, "attempts": 1},
}


def test_metrics_and_log_after_four_jobs_succeeded_and_one_failed(tmp_path):
    simulations = {"fast": {"latency": 0.02}, "broken": {"error_rate": 1.0, "error_status": 400}}
    url_file = tmp_path / "metrics.url"
    env = {"POINTSMAN_METRICS_PORT": "0", "POINTSMAN_METRICS_FILE": str(url_file), "POINTSMAN_LOG_ATTEMPTS": "all"}
    with fleet(tmp_path, models=MODELS, simulations=simulations) as running:
        router = running.start("route,join", wait=False)
        worker = running.start("model.fast,model.broken", env=env)
        router.wait_until_ready()
        secret = "xyzzy-secret-prompt"
        jobs = running.producer.submit_many(
            [{"text": f"{secret} {number}", "model": "fast"} for number in range(4)]
            + [{"text": secret, "model": "broken"}]
        )
        results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
        assert [result.state for result in results] == ["succeeded"] * 4 + ["failed"]

        url = wait_for(lambda: url_file.exists() and url_file.read_text().strip(), "the address of the metrics")
        numbers = wait_for(lambda: _settled(url), "the last attempt's count")

        assert numbers["pointsman_attempts_total"] == {
            ("fast", "openai", "succeeded", ""): 4.0,
            ("broken", "openai", "failed", "bad_request"): 1.0,
        }
        assert numbers["pointsman_attempt_duration_seconds_count"][("fast",)] == 4.0
        assert numbers["pointsman_attempt_duration_seconds_sum"][("fast",)] >= 4 * 0.02
        assert numbers["pointsman_cost_usd_total"][("fast",)] > 0
        tokens = sum(result.usage.output_tokens for result in results)
        assert numbers["pointsman_tokens_total"][("fast", "output")] == tokens
        assert numbers["pointsman_calls_in_flight"] == {(): 0.0}
        assert "attempt.failed" in worker.log
        assert worker.log.count("attempt.succeeded") == 4
        assert secret not in worker.log


def _settled(url: str) -> dict[str, dict[tuple[str, ...], float]] | None:
    """All samples by name and labels, once nothing is in flight and five attempts were counted."""
    with urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    numbers: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, number in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        read = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        order = [read[word] for word in ("model", "provider", "outcome", "error", "type", "le") if word in read]
        numbers.setdefault(name, {})[tuple(order)] = float(number)
    counted = sum(numbers.get("pointsman_attempts_total", {}).values())
    return numbers if counted == 5 and not numbers["pointsman_calls_in_flight"][()] else None
