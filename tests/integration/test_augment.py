"""`pointsman config augment` against a real queue and worker: a model paraphrases the examples, once."""

from __future__ import annotations

import json
import os

import pytest

from ops.cli.exits import Exit
from tasks.loading.load import load
from tasks.routing.classify.build import build_cascade
from tests import forked
from tests.harness import DEADLINE, REPOSITORY, fleet

#: What the model says; the first key that is found in the question decides.
ANSWERS = {
    "does not satisfy": "I would rather not.",
    "charged twice": json.dumps({"paraphrases": ["You debited my account two times", "Why was I charged twice?"]}),
    "declined": '{"paraphrases": ["The bank refused my payment", "My credit card does not work"]}',
    "crashes": '```json\n{"paraphrases": ["It closes by itself", "The program ends without a word"]}\n```',
    "log in": "I would rather not.",
}
ROUTES = {
    "billing": {"models": ["writer"], "examples": ["Why was I charged twice?", "My card was declined"]},
    "technical": {"models": ["writer"], "examples": ["The app crashes at start", "I can't log in any more"]},
    "general": {"models": ["writer"]},
}


@pytest.fixture
def running(tmp_path):
    with fleet(
        tmp_path,
        models={"writer": {"capacity": 4, "attempts": 1}},
        simulations={"writer": {"answers": ANSWERS}},
        routes=ROUTES,
        default_route="general",
        classifier={"encoder": "none", "augment": {"model": "writer", "paraphrases": 2}},
    ) as running:
        running.start_all([("route,join", 4), ("model.writer", 4)])
        yield running


def test_model_is_asked_once_for_each_example_and_routers_read_it(running, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    env = kept | running.env | {"PYTHONPATH": str(REPOSITORY), "POINTSMAN_STATE_DIR": str(tmp_path / "state")}

    def run(*words):
        done = forked.run("ops", *words, env=env, cwd=tmp_path, timeout=DEADLINE)
        assert "Traceback" not in done.stderr
        return done

    first = run("config", "augment", "--json")
    asked = running.stats("writer")["requests"]
    again = run("config", "augment", "--json")
    shown = run("config", "check", "--json")

    # then three have paraphrases, and the fourth is named with what was wrong
    assert first.returncode == Exit.FAILED
    report = json.loads(first.stdout)
    assert report["kept"] == 3
    assert report["problems"].keys() == {"routes.technical.examples[1]"}
    assert "rather" not in first.stdout + first.stderr
    # ... that one alone was asked about again, each time once more for the schema
    assert json.loads(again.stdout)["kept"] == 0
    assert running.stats("writer")["requests"] == asked + 2 == 5 + 2
    # ... the check shows them, without what is the example itself or no text
    assert json.loads(shown.stdout)["examples"][1:] == [
        "augment: 5 paraphrases of 3 examples; 1 examples have none, run `pointsman config augment`",
        "  'My card was declined': The bank refused my payment; My credit card does not work",
        "  'The app crashes at start': It closes by itself; The program ends without a word",
        "  'Why was I charged twice?': You debited my account two times",
    ]
    # ... and they count beside the examples
    config = load(env["POINTSMAN_CONFIG"])
    assert build_cascade(config).classify("The program closes by itself").route == "technical"
