"""Classifiers in turn: who is asked, who decides, and the reasons of the rest."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from tasks.config.routes import ModelChoice
from tasks.routing.classify.cascade import LONG, Cascade
from tasks.routing.classify.context import ContextRules, read_rule
from tasks.routing.classify.decision import Abstention, Facts, Verdict
from tasks.routing.classify.examples import ExampleClassifier
from tasks.routing.classify.llm import ModelClassifier, ModelRequired
from tasks.routing.classify.rules import Rules


@dataclass
class Says:
    """A classifier that always says the same, and remembers the threads in which it was asked."""

    message: Verdict | Abstention
    name: str = "says"
    slow: bool = False
    asked: list[int] = field(default_factory=list)

    def judge(self, text: str) -> Verdict | Abstention:
        assert isinstance(text, str)
        self.asked.append(threading.get_ident())
        return self.message


MODEL = ModelClassifier(ModelChoice(model="judge"), {})
SILENT = Abstention("one", "nothing to say")


def test_first_that_is_sure_decides_and_the_rest_are_not_asked():
    first, second = Says(Verdict("a", "one", 0.9, "")), Says(Verdict("b", "two", 1.0, ""))

    verdict = Cascade([first, second], "z").classify("text")

    assert verdict.route == "a"
    assert second.asked == []


def test_classifier_below_its_threshold_is_passed_over():
    first, second = Says(Verdict("a", "one", 0.4, "")), Says(Verdict("b", "two", 0.6, ""))

    assert Cascade([first, second], "z", thresholds={"says": 0.5}).classify("text").route == "b"


def test_classifier_may_have_a_threshold_of_its_own():
    first, second = Says(Verdict("a", "one", 0.6, ""), "one"), Says(Verdict("b", "two", 0.6, ""), "two")

    assert Cascade([first, second], "z", thresholds={"one": 0.7}).classify("text").route == "b"
    assert Cascade([first, second], "z", thresholds={"one": 0.5, "two": 0.7}).classify("text").route == "a"


def test_reason_of_a_verdict_names_who_abstained_before():
    cascade = Cascade([Says(SILENT), Says(Verdict("b", "two", 0.6, "because"))], "z")

    assert cascade.classify("text").reason == "because; one abstained (nothing to say)"


def test_default_route_says_which_classifiers_abstained_and_why():
    classifiers = [Says(Abstention("rules", "no keyword found")), Says(Verdict("a", "examples", 0.4, ""))]
    cascade = Cascade(classifiers, "z", thresholds={"says": 0.5})

    verdict = cascade.classify("text")

    assert (verdict.route, verdict.classifier, verdict.confidence) == ("z", "default", 0.0)
    assert verdict.reason == (
        "default route: rules abstained (no keyword found); examples said 'a' with confidence 0.40, below 0.50"
    )


def test_cascade_without_classifiers_takes_the_default_route():
    assert Cascade([], "z").classify("text").reason == "default route: no classifier is configured"


def test_rules_of_context_are_given_the_facts():
    cascade = Cascade([ContextRules([read_rule("a", {"topic": "x"})])], "z")

    assert cascade.classify("text", Facts({"topic": "x"})).route == "a"
    assert cascade.classify("text").route == "z"


def test_cascade_stops_at_a_model_whose_answer_is_missing():
    after = Says(Verdict("b", "two", 1.0, ""))

    message = asyncio.run(Cascade([Says(SILENT), MODEL, after], "z").decide("text"))

    assert message == ModelRequired(MODEL, "one abstained (nothing to say)")
    assert after.asked == []


@pytest.mark.parametrize(
    ("answer", "route", "reason"),
    [
        (Verdict("a", "llm", 0.9, "it says so"), "a", "it says so; one abstained (nothing to say)"),
        (Verdict("a", "llm", 0.2, "it says so"), "b",
         "because; one abstained (nothing to say); llm said 'a' with confidence 0.20, below 0.50"),
        (Abstention("llm", "no route fits"), "b",
         "because; one abstained (nothing to say); llm abstained (no route fits)"),
    ],
)  # fmt: skip
def test_cascade_continues_with_the_answer_of_the_model(answer, route, reason):
    classifiers = [Says(SILENT), MODEL, Says(Verdict("b", "two", 1.0, "because"))]

    message = asyncio.run(Cascade(classifiers, "z", thresholds={"llm": 0.5}).decide("text", answer=answer))

    assert (message.route, message.reason) == (route, reason)


def test_caller_that_can_t_wait_gets_the_verdict_of_the_others():
    verdict = Cascade([Says(SILENT), MODEL], "z").classify("text")

    assert verdict.reason == "default route: one abstained (nothing to say); llm abstained (no model was asked)"


@pytest.mark.parametrize(
    ("slow", "text", "apart"), [(False, "x", False), (True, "x", True), (False, "x" * (LONG + 1), True)]
)
def test_slow_classifier_does_not_block_the_event_loop(slow, text, apart):
    one = Says(Verdict("a", "one", 0.9, ""), slow=slow)

    message = asyncio.run(Cascade([one], "z").decide(text))

    assert message == one.message
    assert (one.asked[0] != threading.get_ident()) is apart


def test_classifiers_implement_the_protocol():
    fitted = ExampleClassifier.fit({"a": ["red apples"], "b": ["blue skies"]})
    assert fitted is not None
    classifiers = [ContextRules([]), Rules({}), fitted, MODEL]

    assert Cascade(classifiers, "z").classify("完全").route == "z"
    assert len({classifier.name for classifier in classifiers}) == 4
