"""Each benchmark runs to its end and reports what it must; how fast this machine is proves nothing here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.harness import DEADLINE, REPOSITORY

CONTESTANTS = {
    "calls": {"ours", "celery-threads", "taskiq-list", "taskiq-stream", "bare"},
    "noop": {"ours ×100", "stock ×100"},
    "job": {"ours 10", "litellm 10"},
    "publish": {"ours", "celery"},
    "flight": {"ours"},
    "growth": {"5 in flight", "10 in flight", "30 queued", "90 queued"},
    "routing": {"mixed: ours least_latency", "mixed: litellm least-busy"},
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, cwd=REPOSITORY, check=False)


@pytest.mark.parametrize("name", CONTESTANTS)
def test_smoke_run_answers_every_call_of_every_contestant(name):
    ran = run(name, "--quick", "--json")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert set(report["contestants"]) == CONTESTANTS[name]
    for contestant in report["contestants"].values():
        assert contestant["rounds"]
        for one in contestant["rounds"]:
            assert one["answered"] == one["calls"] > 0
            assert one["wall_s"] > 0
            assert all(cpu >= 0 for cpu in one["cpu_ms"].values())
            # A model that was asked had at least one call open, and never more than there were.
            if name not in {"noop", "publish", "growth"}:
                assert 1 <= one["peak_in_flight"] <= one["calls"]
    assert [figure["value"] for figure in report["figures"] if figure["must"] == 0] == [0]
    assert {"python", "cores", "celery", "kombu", "redis"} <= set(report["machine"])
    CHECKS.get(name, lambda _report: None)(report)


def its_processes_are_told_apart(report):
    (one,) = report["contestants"]["ours"]["rounds"]
    assert set(one["cpu_ms"]) == {"worker", "router", "valkey"}
    assert one["rss_mb"]["worker"] > 10


def the_lag_of_the_loop_is_measured(report):
    (lag,) = report["details"]["lag_ms"]
    assert 0 < lag["p50"] <= lag["p99"] <= lag["max"]


def the_ratio_is_that_of_its_rounds(report):
    celery, ours = (
        [one["cpu_ms"]["publisher"] for one in report["contestants"][name]["rounds"]] for name in ("celery", "ours")
    )
    (figure,) = [figure for figure in report["figures"] if figure["unit"] == "×"]
    assert figure["rounds"] == pytest.approx([a / b for a, b in zip(celery, ours, strict=True)])


CHECKS = {
    "calls": its_processes_are_told_apart,
    "flight": the_lag_of_the_loop_is_measured,
    "publish": the_ratio_is_that_of_its_rounds,
}


def test_plot_that_can_t_be_drawn_is_refused_before_anything_runs(tmp_path):
    ran = run("publish", "--quick", "--plot", str(tmp_path / "plot.docx"))
    assert ran.returncode == 2
    assert "--plot: plot.docx must end in .png or .svg" in ran.stderr


def test_plot_is_drawn(tmp_path):
    file = tmp_path / "plot.svg"
    ran = run("publish", "--quick", "--rounds", "1", "--plot", str(file))
    assert ran.returncode == 0, ran.stderr
    assert file.read_text().lstrip().startswith("<?xml")
