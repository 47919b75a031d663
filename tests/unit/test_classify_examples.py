import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.classify.decision import Abstention, Verdict
from tasks.classify.examples import ExampleClassifier

SUPPORT = {
    "billing": [
        "Why was I charged twice this month?",
        "Please send me the invoice for March",
        "My credit card was declined when paying the bill",
        "How do I change my payment method?",
        "There is an unknown charge on my statement",
    ],
    "technical": [
        "The app crashes when I open it",
        "I can't log in, the page shows an error",
        "The server returns error 500",
        "How do I reset my password?",
        "The upload is stuck and nothing happens",
    ],
    "refund": [
        "I want my money back",
        "How long does a refund take?",
        "Please refund my last order",
        "The product arrived broken, I want to return it",
        "Cancel my order and give me a refund",
    ],
    "sales": [
        "What does the enterprise plan cost?",
        "Do you offer a discount for schools?",
        "I would like a demo of your product",
        "Which plan is right for a team of ten?",
        "Can I talk to someone about buying licences?",
    ],
}

#: Left out where the file is absent, by having no case: a checkout without the data loses these tests only.
CLINC = [path for path in [Path(__file__).parents[3] / "shared/data/intent/clinc150.json"] if path.is_file()]


@pytest.fixture(scope="module")
def support() -> ExampleClassifier:
    fitted = ExampleClassifier.fit(SUPPORT)
    assert fitted is not None
    return fitted


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("I was charged two times, send an invoice", "billing"),
        ("the app shows an error when I log in", "technical"),
        ("please give me a refund for my order", "refund"),
        ("is there a discount on the enterprise plan", "sales"),
    ],
)
def test_a_text_like_the_examples_takes_their_route(support, text, route):
    verdict = support.classify(text)

    assert verdict is not None
    assert verdict.route == route
    assert support.threshold <= verdict.confidence <= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "…!?",
        "量子力学とは何ですか",
        "Wie wird das Wetter morgen in Hamburg",
        "zebra giraffe quantum volcano",
        "\x00\x01\x02\xff" * 50,
        "\ud800",
        "qwx" * 300_000,
        "refund volcano zebra quantum " + "lorem ipsum dolor sit amet " * 40_000,
    ],
)
def test_a_text_that_shares_almost_nothing_is_left_to_others(support, text):
    assert support.classify(text) is None
    assert isinstance(support.judge(text), Abstention)


def test_fewer_than_two_routes_with_examples_are_no_classifier():
    assert ExampleClassifier.fit({}) is None
    assert ExampleClassifier.fit({"a": ["one", "two"], "b": [], "c": ["…"]}) is None


def test_one_example_a_route_is_enough_to_fit():
    fitted = ExampleClassifier.fit({"a": ["red apples"], "b": ["blue skies"]})

    assert fitted is not None
    assert fitted.classify("something else entirely") is None


def test_the_same_examples_give_the_same_classifier(support):
    again = ExampleClassifier.fit(SUPPORT)

    assert again is not None
    assert (again.temperature, again.threshold) == (support.temperature, support.threshold)
    assert again.judge("charged twice") == support.judge("charged twice")


def test_a_route_with_many_examples_does_not_swallow_one_with_few():
    many = {"a": [f"order number {n} is late" for n in range(60)], "b": ["what is the weather", "will it rain today"]}

    fitted = ExampleClassifier.fit(many)

    assert fitted is not None
    verdict = fitted.classify("will it rain")
    assert verdict is not None
    assert verdict.route == "b"


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=20), max_size=4), max_size=4), st.text())
def test_no_examples_and_no_text_are_an_error(examples, text):
    fitted = ExampleClassifier.fit(examples)

    if fitted is not None:
        said = fitted.judge(text)
        assert isinstance(said, Abstention) or 0 <= said.confidence <= 1


@pytest.mark.parametrize("path", CLINC)
def test_thirty_intents_of_clinc150_are_told_apart_and_strangers_are_left_alone(path):
    # given ten examples, spread over the rows, of each of thirty intents
    data = json.loads(path.read_text())
    rows = defaultdict(list)
    for text, intent in data["train"]:
        rows[intent].append(text)
    examples = {intent: rows[intent][::10] for intent in sorted(rows)[::5]}

    # when
    fitted = ExampleClassifier.fit(examples)
    assert fitted is not None
    said = [(fitted.judge(text), intent) for text, intent in data["val"] if intent in examples]
    strangers = [fitted.judge(text) for text, _ in data["oos_val"]]

    # then
    right = np.mean([isinstance(one, Verdict) and one.route == intent for one, intent in said])
    wrong = np.mean([isinstance(one, Verdict) and one.route != intent for one, intent in said])
    refused = np.mean([isinstance(one, Abstention) for one in strangers])
    assert right >= 0.7
    assert wrong <= 0.06
    assert refused >= 0.8
