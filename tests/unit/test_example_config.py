"""The example configuration, and every other one that is shown to users."""

import json
import re

import pytest

from tasks.batch import read_jobs
from tasks.contract.job import parse_job
from tasks.loading.load import load, parse
from tasks.routing.classify.build import build_cascade
from tasks.workflows.check_job import check_job
from tests.unit.test_docs import PAGES, REPOSITORY, blocks

EXAMPLE = REPOSITORY / "pointsman.yaml"
SHOWN = [(f"{page.name}:{line}", text) for page in PAGES for line, text in blocks(page, "yaml")]


def test_example_is_valid_and_runs_on_simulated_models_alone():
    config = load(EXAMPLE)

    assert {model.provider for model in config.models.values()} == {"simulated"}
    assert all(model.simulation for model in config.models.values())


def test_example_with_its_commented_parts_is_valid():
    """Users take the `#` off: then it must hold, as a whole."""
    text = re.sub(r"^( *)# ( *\w+:(?: .*)?)$", r"\1\2", EXAMPLE.read_text(), flags=re.MULTILINE)

    config = parse(text, source="pointsman.yaml", folder=REPOSITORY)

    assert set(config.models) == {"fast", "careful", "real", "claude", "google", "small"}
    assert config.schedules["nightly"].batch.name == "nightly.jsonl"


@pytest.mark.parametrize(
    ("text", "route", "classifier"),
    [
        ("I want a refund.", "billing", "rules"),
        ("Why was I charged twice?", "billing", "examples"),
        ("The screen is black after I start it.", "technical", "examples"),
        ("Who founded your company?", "general", "default"),
    ],
)
def test_example_routes_are_distinguished(text, route, classifier):
    verdict = build_cascade(load(EXAMPLE)).classify(text)

    assert (verdict.route, verdict.classifier) == (route, classifier)


def test_example_batch_is_valid():
    jobs = list(read_jobs(REPOSITORY / "examples" / "nightly.jsonl", load(EXAMPLE)))

    assert [job.kind for _, job in jobs] == ["single", "single", "sections", "vote"]


@pytest.mark.parametrize(("place", "text"), SHOWN, ids=[place for place, _ in SHOWN])
def test_configurations_in_the_docs_are_valid(place, text):
    parse(text, source=place)


def test_jobs_in_the_docs_are_valid():
    shown = [text for page in PAGES for _, text in blocks(page, "json")]

    for text in shown:
        check_job(parse_job(json.loads(text)), load(EXAMPLE))

    assert shown
