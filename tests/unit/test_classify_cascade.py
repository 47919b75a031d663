from dataclasses import dataclass

from tasks.classify.cascade import Cascade
from tasks.classify.decision import Abstention, Classifier, Verdict
from tasks.classify.examples import ExampleClassifier
from tasks.classify.rules import KeywordRules


@dataclass
class Says:
    """A classifier that always says the same, and counts how often it was asked."""

    said: Verdict | Abstention
    name: str = "says"
    asked: int = 0

    def judge(self, text: str) -> Verdict | Abstention:
        self.asked += bool(text)
        return self.said


def test_the_first_that_is_sure_decides_and_the_rest_are_not_asked():
    first, second = Says(Verdict("a", "one", 0.9, "")), Says(Verdict("b", "two", 1.0, ""))

    verdict = Cascade([first, second], "z").classify("text")

    assert verdict.route == "a"
    assert second.asked == 0


def test_one_that_is_not_sure_enough_is_passed_over():
    first, second = Says(Verdict("a", "one", 0.4, "")), Says(Verdict("b", "two", 0.6, ""))

    assert Cascade([first, second], "z", threshold=0.5).classify("text").route == "b"


def test_when_all_abstain_the_default_route_says_who_and_why():
    cascade = Cascade(
        [Says(Abstention("rules", "no keyword found")), Says(Verdict("a", "examples", 0.4, ""))], "z", threshold=0.5
    )

    verdict = cascade.classify("text")

    assert (verdict.route, verdict.classifier, verdict.confidence) == ("z", "default", 0.0)
    assert verdict.reason == (
        "default route: rules abstained (no keyword found); examples said 'a' with confidence 0.40, below 0.50"
    )


def test_without_classifiers_everything_takes_the_default_route():
    assert Cascade([], "z").classify("text").reason == "default route: no classifier is configured"


def test_a_cascade_can_stand_inside_another():
    inner = Cascade([KeywordRules({"a": ["x"]})], "never")
    outer: Classifier = Cascade([inner], "z")

    assert isinstance(outer.judge("y"), Abstention)
    assert outer.judge("x") == KeywordRules({"a": ["x"]}).judge("x")


def test_all_our_classifiers_are_classifiers():
    fitted = ExampleClassifier.fit({"a": ["red apples"], "b": ["blue skies"]})
    assert fitted is not None
    classifiers: list[Classifier] = [KeywordRules({}), fitted]

    assert Cascade(classifiers, "z").classify("完全").route == "z"
