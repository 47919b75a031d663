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


@pytest.mark.parametrize(("prompt", "model"), [(EASY, "cheap"), (HARD, "dear")])
def test_an_easy_text_goes_to_the_cheap_model_and_a_hard_one_to_the_dear(running, prompt, model):
    result = result_of(running, text=prompt.format("order 4242"))
    assert (result.state, result.parts[0].model) == ("succeeded", model)
    assert "predicted" in result.routing.reason


def test_each_section_of_a_job_is_predicted_by_its_own_text(running):
    items = [EASY.format("land1"), HARD.format("order 7"), EASY.format("land3")]
    result = result_of(running, kind="sections", items=items, prompt="Answer.")
    assert [part.model for part in result.parts] == ["cheap", "dear", "cheap"]


def test_what_was_fitted_is_kept_for_the_next_start(running):
    assert any((running.folder / "workers" / "predictors").iterdir())
