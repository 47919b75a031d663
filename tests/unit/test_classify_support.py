"""The example configuration over plain messages, five examples a route.

`support.jsonl` was written before the classifiers were tuned, and looked at while they were; `held_out.jsonl` was
written at the same time and measured once, at the end. A line without a label belongs to no route.
"""

from collections import Counter
from pathlib import Path

import pytest

from ops.evaluate.labelled import read_labelled
from tasks.loading.load import load, parse
from tasks.routing.classify.build import build_cascade
from tests.harness import REPOSITORY

MESSAGES = Path(__file__).parents[1] / "routing"


def count(name, cascade):
    """How many messages of a route went right and to a wrong specialist, and how many of none to the default."""
    found = Counter()
    for row in read_labelled(MESSAGES / name, field="file"):
        route = cascade.classify(row.text).route
        if row.label is None:
            found["refused"] += route == "general"
        else:
            found["right"] += route == row.label
            found["wrong"] += route not in {"general", row.label}
    return found


@pytest.fixture(scope="module")
def cascade():
    return build_cascade(load(REPOSITORY / "pointsman.yaml"))


def test_example_configuration_routes_plain_messages_and_refuses_others(cascade):
    found = count("support.jsonl", cascade)

    assert found["right"] >= 45
    assert found["wrong"] <= 2
    assert found["refused"] >= 27


def test_example_configuration_routes_messages_that_nothing_was_tuned_on(cascade):
    found = count("held_out.jsonl", cascade)

    assert found["right"] >= 24
    assert found["wrong"] <= 3
    assert found["refused"] >= 17


def test_words_alone_refuse_strangers_and_hardly_err():
    text = (REPOSITORY / "pointsman.yaml").read_text() + "\nclassifier: {encoder: none}\n"

    found = count("support.jsonl", build_cascade(parse(text, folder=REPOSITORY)))

    assert found["right"] >= 35
    assert found["wrong"] <= 3
    assert found["refused"] >= 27


@pytest.mark.parametrize(
    "text", ["Write a poem about my cat", "translate this sentence into German", "Is this friendly?"]
)
def test_message_of_no_route_goes_to_the_default(cascade, text):
    assert cascade.classify(text).classifier == "default"


@pytest.mark.parametrize(("text", "route"), [("My app crashes", "technical"), ("Two invoices are wrong", "billing")])
def test_inflected_keyword_decides(cascade, text, route):
    verdict = cascade.classify(text)

    assert (verdict.route, verdict.classifier) == (route, "rules")
