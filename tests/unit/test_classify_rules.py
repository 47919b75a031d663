import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.classify.decision import Abstention, Verdict
from tasks.routing.classify.rules import Rules

RULES = Rules(
    {
        "billing": ["invoice", "credit card", "straße"],
        "refund": ["refund", "money back", "refund policy", "退款"],
        "dev": ["c++", "401(k)", "api"],
    }
)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("Where is my INVOICE?", "billing"),
        ("my credit\n  card, and the invoice; refund", "billing"),
        ("I want my Money Back!", "refund"),
        ("wie heißt die STRASSE", "billing"),
        ("我要退款", "refund"),
        ("is c++ faster", "dev"),
        ("about the 401(k).", "dev"),
    ],
)
def test_route_with_the_most_keywords_wins(text, route):
    verdict = RULES.judge(text)

    assert isinstance(verdict, Verdict)
    assert verdict.route == route
    assert verdict.classifier == "rules"


@pytest.mark.parametrize("text", ["", "invoices", "reinvoice", "rapid", "nothing here", "\x00\xff" * 9])
def test_keywords_match_whole_words_alone(text):
    assert isinstance(RULES.judge(text), Abstention)


def test_keyword_that_stands_twice_counts_once():
    once, thrice = RULES.judge("refund"), RULES.judge("refund refund refund")

    assert isinstance(once, Verdict)
    assert once == thrice
    assert once.confidence == pytest.approx(2 / 3)


def test_longer_of_two_keywords_is_meant():
    rules = Rules({"sales": ["order"], "refund": ["cancel order", "order back"]})

    verdict = rules.judge("cancel order")

    assert isinstance(verdict, Verdict)
    assert verdict.route == "refund"


def test_tie_abstains_and_names_both():
    message = RULES.judge("the invoice and the api")

    assert isinstance(message, Abstention)
    assert message.reason == "tie between billing and dev, 1 keyword each"


def test_others_that_match_lower_the_confidence():
    alone, contested = RULES.judge("invoice credit card"), RULES.judge("invoice credit card refund")

    assert isinstance(alone, Verdict)
    assert isinstance(contested, Verdict)
    assert alone.confidence == pytest.approx(3 / 4)
    assert contested.confidence == pytest.approx(3 / 5)


def test_rules_without_keywords_abstain():
    assert isinstance(Rules({}).judge("x"), Abstention)
    assert isinstance(Rules({"a": ["", "  "]}).judge("x"), Abstention)


@given(keyword=st.text(alphabet=".*+?()[]{}|^$\\ab é", min_size=1).filter(str.strip))
def test_keyword_finds_itself(keyword):
    rules = Rules({"a": [keyword]})

    assert isinstance(rules.judge(f"so, {keyword} !"), Verdict)


@given(st.text())
def test_missing_text_is_an_error(text):
    RULES.judge(text)


def test_thousand_keywords_and_a_megabyte_take_one_pass():
    rules = Rules({f"r{i}": [f"word{i}{j} x" for j in range(100)] for i in range(10)})

    assert isinstance(rules.judge("word " * 200_000 + "word77 x"), Verdict)


def test_keywords_that_begin_alike_are_all_found():
    rules = Rules({"a": ["car", "card", "card  holder", "care"]})

    verdict = rules.judge("care for the card holder, his car and his card")

    assert isinstance(verdict, Verdict)
    assert verdict.confidence == pytest.approx(5 / 6)
