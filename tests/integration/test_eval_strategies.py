"""`pointsman eval strategies`, as a user and as a script run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.harness import DEADLINE, REPOSITORY


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops", "eval", "strategies", *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=200,
        cwd=REPOSITORY,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_scenario_is_run_by_every_strategy_that_fits():
    ran = run("--scenario", "mixed", "--requests", "600", "--json")

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["scenario"] == "mixed"
    assert {"round_robin", "least_latency", "prequal", "consistent_hash", "adaptive"} <= set(found["strategies"])
    # Those that choose a model for what it is good at have nothing to go by here.
    assert not {"profile", "contextual", "cost_quality"} & set(found["strategies"])
    for one in found["strategies"].values():
        assert one["failed"] == 0
        assert one["p50_s"] <= one["p95_s"] <= one["p99_s"]
        assert one["attempts"] >= one["requests"] == 600
        assert 0.999 < sum(one["share_of_attempts"].values()) < 1.001


def test_scenario_file_is_compared_by_the_named_strategies_with_spread(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("rate: 20\nrequests: 200\nmodels: [{name: a, count: 3}]\n")
    plot = tmp_path / "own.svg"

    ran = run(
        "--scenario", str(file), "--strategy", "random", "--strategy", "profile", "--seeds", "2", "--plot", str(plot)
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    head, *rows = ran.stdout.splitlines()
    assert head.split()[:3] == ["strategy", "p50", "s"]
    assert {row.split()[0] for row in rows} == {"random", "profile"}
    assert all("±" in row for row in rows)
    assert "<svg" in plot.read_text()


def test_wrong_options_are_reported_with_field_and_remedy(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("rate: 20\nmodels: [{name: a, capacity: 0}]\n")
    for words, message in [
        (("--scenario", "mixd"), "scenarios: one-slow"),
        (("--scenario", str(file)), "models.0.capacity"),
        (("--strategy", "best"), "allowed: adaptive"),
        (("--plot", str(tmp_path / "plot.docx")), ".png or .svg"),
    ]:
        ran = run(*words)
        assert ran.returncode == 2, ran.stderr
        assert message in ran.stderr
        assert "Traceback" not in ran.stderr


def test_decision_of_every_strategy_is_measured_beside_litellm():
    command = [sys.executable, "-m", "ops", "bench", "decision", "--quick", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, cwd=REPOSITORY, check=False)

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert {"ours least_latency", "ours prequal", "ours profile", "litellm least-busy"} <= set(found["contestants"])
    assert {figure["unit"] for figure in found["figures"]} == {"µs", "×"}
    assert all(figure["value"] > 0 for figure in found["figures"])
