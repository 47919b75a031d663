"""The strategy `cost_quality` with real workers: what was learned from graded answers chooses the model."""

from __future__ import annotations

import csv
import random

import pytest

from tests.harness import DEADLINE, fleet

MODELS = {
    "cheap": {"capacity": 4, "price": {"input": 0.1, "output": 0.2}},
    "dear": {"capacity": 4, "price": {"input": 5.0, "output": 15.0}},
}
ROUTE = {"models": list(MODELS), "strategy": "cost_quality", "options": {"threshold": 0.7}}
EASY = "What is the capital of {}?"
HARD = "Prove with care that the equation of {} has no solution in whole numbers, and explain each step."


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    words = random.Random(5).sample(range(1000), 120)
    with (folder / "outcomes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "cheap_correct", "dear_correct"])
        for word in words:
            table.writerow([EASY.format(f"land{word}"), 1, 1])
            table.writerow([HARD.format(f"order {word}"), 0, 1])
    with fleet(
        folder,
        models=MODELS,
        simulations={name: {} for name in MODELS},
        routes={"only": ROUTE},
        outcomes="outcomes.csv",
    ) as fleet_:
        fleet_.start("route,join", 2, env={"POINTSMAN_STATE_DIR": str(folder / "workers")})
        for model in MODELS:
            fleet_.start(f"model.{model}", 4)
        yield fleet_


def result_of(running, **job):
    submitted = running.producer.submit(job)
    return running.producer.wait(submitted.id, timeout=DEADLINE)


@pytest.mark.parametrize(
    ("prompt", "model"), [(EASY.format("land424"), "cheap"), (HARD.format("order 4242"), "dear")], ids=MODELS
)
def test_cost_quality_sends_easy_texts_to_the_cheap_model(running, prompt, model):
    result = result_of(running, text=prompt)
    assert (result.state, result.parts[0].model) == ("succeeded", model)
    assert "predicted" in result.routing.reason


def test_cost_quality_predicts_each_section_by_its_own_text(running):
    items = [EASY.format("land1"), HARD.format("order 7"), EASY.format("land3")]
    result = result_of(running, kind="sections", items=items, prompt="Answer.")
    assert [part.model for part in result.parts] == ["cheap", "dear", "cheap"]


def test_fitted_predictor_is_kept_for_the_next_start(running):
    assert any((running.folder / "workers" / "predictors").iterdir())
