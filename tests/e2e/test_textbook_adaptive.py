"""Adaptive weights: the textbook case that rests on what was measured, so its fleet has seen nothing else."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.harness import DEADLINE, fleet, wait_for
from tests.served import Server

NAMES = ("gpt-4", "gemini", "claude")
QUICK = 0.02
#: Jobs in flight at once: fewer than the queue of one model takes, so that a call goes where its weight says and
#: none because the others are full.
AT_ONCE = 6


@pytest.fixture
def gemini(tmp_path):
    with Server(tmp_path, "gemini", latency=QUICK) as server:
        yield server


@pytest.fixture
def running(tmp_path, gemini):
    models = {name: {"capacity": 8} for name in NAMES}
    models["gemini"]["base_url"] = gemini.url
    simulations = {name: {"latency": QUICK} for name in ("gpt-4", "claude")}
    routes = {"adaptive": {"models": list(NAMES), "strategy": "adaptive"}}
    with fleet(tmp_path, models=models, simulations=simulations, routes=routes) as running:
        running.start_all([("route,join", 8), (",".join(f"model.{name}" for name in NAMES), 24)])
        yield running


def test_adaptive_weights_shift_away_from_a_model_that_becomes_slow(running, gemini):
    assert wait_for(lambda: _share(running) >= 3, "an even share of gemini")
    gemini.serve(latency=1.0)
    wait_for(lambda: _share(running) <= 1, "what is slow getting less")
    (result,) = _ask(running, 1)
    assert "drawn by weights of this moment" in result.routing.reason
    assert "gemini leads" not in result.routing.reason


def _share(running):
    """How many of 30 jobs gemini has done."""
    return Counter(part.model for _ in range(5) for result in _ask(running, AT_ONCE) for part in result.parts)["gemini"]


def _ask(running, count):
    jobs = running.producer.submit_many([{"text": "a task", "route": "adaptive"}] * count)
    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
    assert {result.state for result in results} == {"succeeded"}
    return results
