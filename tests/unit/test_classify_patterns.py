"""Regular expressions of routes: found in linear time, and refused with place and remedy where they can't be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import ConfigError
from tasks.loading.load import parse
from tasks.routing.classify.decision import Abstention, Verdict
from tasks.routing.classify.patterns import LEAST_READ, MOST_PATTERNS, STEPS, Patterns, compile_pattern
from tasks.routing.classify.rules import Rules


def found(patterns, text):
    return [pattern for pattern, _ in Patterns({"a": patterns}).found(text)]


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        (r"INV-\d+", "about inv-2041, please", True),
        (r"(?-i)INV-\d+", "about inv-2041, please", False),
        (r"\brefund(ed|s)?\b", "It was Refunded.", True),
        (r"\brefund\b", "refundable", False),
        ("caf\u00e9", "the cafe\u0301", True),
        ("ÜBERWEISUNG", "eine Überweisung", True),
        (r"\pL+ung(?:\PL|$)", "die Überweisung", True),
        ("退款", "我要退款", True),
        (r"charged.*twice", "charged\ntwice", False),
        (r"(?s)charged.*twice", "charged\ntwice", True),
        ("^order", "my order", False),
        (r"a.c", "a\x00c", True),
    ],
)
def test_pattern_is_searched_in_the_whole_text_whatever_its_case(pattern, text, is_found):
    assert found([pattern], text) == ([pattern] if is_found else [])


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("refund(ed", "character 7: missing ); the syntax is that of RE2"),
        ("[a-", "character 1: missing ]; the syntax is that of RE2"),
        ("a[z-b]", "character 3: invalid character class range z-b"),
        ("a**", "character 2: bad repetition operator **"),
        (r"x(?=y)", "character 2: invalid perl operator (?=; this engine has no lookaround"),
        (r"(?<!x)y", "character 1: invalid perl operator (?<!; this engine has no lookaround"),
        (r"(a|b)\1", r"character 6: invalid escape sequence \1; this engine has no backreferences"),
        (r"(?P<q>a)(?P=q)", "character 1: invalid perl operator (?P; this engine has no backreferences"),
        (r"end\Z", r"character 4: invalid escape sequence \Z; the end of the text is \z"),
        ("x{2000}", "character 2: invalid repetition size {2000}; make its repetitions smaller"),
        (r"\pN{900}", "pattern too large - compile failed; make its repetitions smaller"),
        ("a*", "is found in an empty text, so it is found in all; ask for at least one character"),
        ("x|", "is found in an empty text"),
        ("", "is found in an empty text"),
        (r"\bété", r"character 1: \b knows ASCII letters alone"),
        (r"an été\b", r"character 6: \b knows ASCII letters alone"),
        ("\ud800", "holds half a surrogate pair"),
        ("x" * 1001, "has 1,001 characters, the limit is 1,000"),
    ],
)
def test_pattern_that_can_t_be_used_says_where_and_what_to_do(pattern, problem):
    with pytest.raises(ValueError, match=r".") as caught:
        compile_pattern(pattern)

    assert str(caught.value).startswith(problem)


def test_configuration_tells_its_line_and_field():
    with pytest.raises(ConfigError) as caught:
        parse(
            """\
models: {fast: {provider: simulated}}
routes:
  a:
    models: [fast]
    patterns:
      - good
      - "(bad"
default_route: a
""",
            source="p.yaml",
        )

    assert str(caught.value) == "p.yaml:7: routes.a.patterns[1]: character 1: missing ); the syntax is that of RE2"


def test_too_many_patterns_are_refused():
    patterns = ", ".join(f"x{number}" for number in range(MOST_PATTERNS + 1))
    with pytest.raises(ConfigError, match=r"routes: hold 1,001 patterns, the limit is 1,000; join some with \|"):
        parse(
            f"models: {{m: {{provider: simulated}}}}\nroutes: {{a: {{models: [m], patterns: [{patterns}]}}}}\n"
            "default_route: a"
        )


@pytest.mark.parametrize("pattern", [r"(x+x+)+y", r"(a|aa)+$b", r"(.*)*#", r"(?:x?){200}x{200}#"])
def test_pattern_of_exponential_time_elsewhere_is_matched_in_one_pass(pattern):
    # A backtracking engine would not come to an end here.
    assert found([pattern], "x" * 1_000_000) == []


def test_large_pattern_reads_only_the_beginning_of_a_long_text():
    large, small = r"(?:[a-z]*\s*){900}9", "needle"
    reach = max(LEAST_READ, STEPS // compile_pattern(large).programsize)

    assert found([large, small], "abc " * reach + " 9 needle") == [small]
    assert found([large, small], "abc 9 needle") == [large, small]


@given(st.text())
def test_missing_text_is_an_error(text):
    found([r"\w+@\w+", "ü"], text)


@pytest.mark.parametrize("text", ["", "\x00" * 1000, "\ud800 refund", "refund" * 200_000, "🙂" * 1000, "\xff\xfe"])
def test_neither_is_one_that_is_empty_binary_or_long(text):
    assert found(["refund"], text) == (["refund"] if "refund" in text else [])


def test_keywords_and_patterns_are_one_classifier_and_count_alike():
    rules = Rules({"billing": ["invoice"], "repair": ["broken"]}, {"billing": [r"INV-\d+", "(?:euro|€)"]})

    message = rules.judge("the broken invoice INV-17")

    assert message == Verdict("billing", "rules", pytest.approx(3 / 5), "keyword 'invoice', pattern 'INV-\\d+'")


def test_patterns_alone_are_rules_too_and_a_tie_is_one():
    rules = Rules({}, {"a": ["one", "shared"], "b": ["two", "shared"]})

    assert rules.judge("one").route == "a"
    assert rules.judge("shared") == Abstention("rules", "tie between a and b, 1 hit each")
    assert rules.judge("three") == Abstention("rules", "no keyword or pattern found")


def test_reason_names_five_hits_and_shortens_a_long_pattern():
    rules = Rules({"a": ["k1", "k2", "k3"]}, {"a": [f"p{'x' * 80}|p1", "p2", "p3"]})

    message = rules.judge("k1 k2 k3 p1 p2 p3")

    assert message.reason == f"keywords 'k1', 'k2', 'k3', patterns 'p{'x' * 59}…', 'p2' and 1 more"
    assert message.confidence == pytest.approx(7 / 8)
