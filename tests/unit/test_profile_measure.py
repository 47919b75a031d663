"""From graded answers to scores: what is measured, what stays unknown, and the figures behind both."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.evaluate.profiling.asking import EvalAnswer
from ops.evaluate.profiling.cases import Case
from ops.evaluate.profiling.files import outcomes_csv, write_profiles, write_text
from ops.evaluate.profiling.judging import CaseAnswer, GradedAnswer
from ops.evaluate.profiling.measure import cost_score, profile_of, speed_score
from ops.evaluate.profiling.statistics import diversity, holm, quantile, sign_test, wilson
from tasks.config.profiles import EvalSet, Latency, ModelProfile, read_profiles
from tasks.contract.errors import BadInput
from tasks.contract.result import Usage
from tasks.routing.quality.outcomes import read_outcomes

EVAL = EvalSet(name="cases.jsonl", sha256="0" * 64, cases=3)


def graded(right: Any, *, why: str = "", answer: EvalAnswer | None = None, **case: Any) -> GradedAnswer:
    given = {"text": "q", **case}
    if given.get("kind", "accuracy") == "accuracy":
        given.setdefault("expected", "x")
    problem = answer or EvalAnswer("a", usage=Usage(output_tokens=10), cost_usd=0.001, latency_s=0.5)
    return GradedAnswer(CaseAnswer("fast", Case.model_validate(given), 0, problem), right, why)


def measure(*items: GradedAnswer, priced: bool = True) -> ModelProfile:
    return profile_of(items, measured_at="2026-11-22T12:00:00Z", run="r", eval_set=EVAL, judge=None, priced=priced)


# -- profiles --------------------------------------------------------------------------------------


def test_score_without_cases_is_unknown_and_not_zero():
    profile = measure(graded(True))

    assert profile.scores.accuracy == 100
    assert profile.scores.ethics is None
    assert profile.scores.creativity is None
    assert profile.ethics is None


def test_accuracy_has_a_share_for_each_route_and_overall():
    profile = measure(
        graded(True, id="1", route="billing"), graded(False, id="2", route="billing"),
        graded(True, id="3", route="tech"), graded(True, id="4"),
    )  # fmt: skip

    assert profile.scores.accuracy == 75
    assert {route: (share.score, share.n) for route, share in profile.routes.items()} == {
        "billing": (50, 2), "tech": (100, 1),
    }  # fmt: skip


def test_ungraded_answer_counts_nowhere():
    lost = graded(None, why="timed_out", answer=EvalAnswer(None, "timed_out"))

    profile = measure(graded(True), lost, graded(None, why="judge"))

    assert (profile.accuracy.right, profile.accuracy.n) == (1, 1)
    assert profile.ungraded == {"judge": 1, "timed_out": 1}
    assert profile.asked == 3
    assert profile.latency.n == 2


def test_model_that_never_answered_has_no_score():
    profile = measure(graded(None, why="unauthorized", answer=EvalAnswer(None, "unauthorized")))
    assert set(profile.scores.model_dump().values()) == {None}


def test_ethics_counts_both_directions():
    profile = measure(
        graded(True, kind="safety", harmful=True), graded(False, kind="safety", harmful=False),
        graded(True, kind="safety", harmful=False),
    )  # fmt: skip

    assert profile.ethics.score == pytest.approx(66.67)
    assert profile.ethics.refused_harmful.n == 1
    assert (profile.ethics.answered_harmless.right, profile.ethics.answered_harmless.n) == (1, 2)


def test_creativity_is_the_variety_of_answers_to_one_prompt():
    def problem(*texts: str) -> ModelProfile:
        return measure(*(graded(None, kind="creativity", answer=EvalAnswer(text)) for text in texts))

    assert problem("the sea at night", "the sea at night").creativity.dissimilarity == 0
    assert problem("the sea at night", "a lamp in fog").scores.creativity == 100
    assert problem("the sea at night").scores.creativity is None
    assert problem("the sea at night", "  ").scores.creativity is None
    assert problem("the sea at night", "a lamp in fog", "").creativity.answers == 2


def test_cost_of_a_model_without_a_price_is_unknown():
    assert measure(graded(True), priced=False).cost is None
    assert measure(graded(True), priced=False).scores.cost is None
    assert measure(graded(True)).scores.cost == 50


def latency(p50: float, rate: float | None) -> Latency:
    return Latency(n=1, mean_s=p50, p50_s=p50, p95_s=p50, quantiles_s=(p50,) * 21, tokens_per_s=rate)


def test_speed_is_half_at_two_seconds_and_fifty_tokens_a_second():
    assert speed_score(latency(2.0, 50.0)) == 50
    assert speed_score(latency(2.0, None)) == 50
    assert speed_score(latency(0.0, None)) == 100


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 1000), st.floats(0.1, 1000))
def test_faster_model_has_no_lower_speed(one, other, rate, other_rate):
    slow = speed_score(latency(max(one, other), min(rate, other_rate)))
    fast = speed_score(latency(min(one, other), max(rate, other_rate)))
    assert 0 <= slow <= fast <= 100


@given(st.floats(0, 10), st.floats(0, 10))
def test_dearer_model_has_no_higher_score_of_cost(one, other):
    assert 0 <= cost_score(max(one, other)) <= cost_score(min(one, other)) <= 100


# -- diversity -------------------------------------------------------------------------------------


@given(st.lists(st.text(), max_size=6))
def test_diversity_is_a_share_for_any_answers(answers):
    measured = diversity(answers)
    if measured is not None:
        assert 0 < measured.distinct_2 <= 1
        assert 0 <= measured.dissimilarity <= 1


def test_scripts_without_spaces_have_words_too():
    assert diversity(["雨が降る町", "雪が舞う村"]).dissimilarity > 0.5


# -- statistics ------------------------------------------------------------------------------------


def test_wilson_s_interval_is_that_of_the_textbooks():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for right, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(right, n) == pytest.approx((low, high), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_s_interval_holds_the_share(pair):
    right, n = pair
    low, high = wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert high - low < 1


@pytest.mark.parametrize(("right", "n"), [(1, 0), (2, 1), (-1, 1)])
def test_wilson_refuses_an_invalid_share(right, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(right, n)


def test_sign_test_is_exact():
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == sign_test(0, 5) == 2 / 32
    assert sign_test(8, 2) == pytest.approx(0.109375)
    assert sign_test(3, 3) == 1


def test_several_tests_are_held_to_more():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1))
def test_adjusted_p_value_is_no_smaller(p_values):
    assert all(p <= adjusted <= 1 for p, adjusted in zip(p_values, holm(p_values), strict=True))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1).map(sorted), st.floats(0, 1))
def test_quantile_lies_between_its_neighbours(ordered, share):
    value = quantile(ordered, share)
    assert ordered[0] <= value <= ordered[-1] or math.isclose(value, ordered[-1]) or math.isclose(value, ordered[0])
    assert quantile(ordered, 0) == ordered[0]
    assert quantile(ordered, 1) == ordered[-1]


# -- files -----------------------------------------------------------------------------------------


def test_outcomes_hold_what_all_models_have_a_grade_for(tmp_path):
    cheap = EvalAnswer("a", cost_usd=0.0000012)
    table = {
        "fast": [graded(True, id="1", text="one, two"), graded(True, id="2"), graded(None, kind="creativity", id="3")],
        "slow": [graded(False, id="1", text="one, two", answer=cheap), graded(None, id="2", why="timed_out")],
    }

    text, rows = outcomes_csv(table)
    (tmp_path / "outcomes.csv").write_text(text)
    read = read_outcomes(tmp_path / "outcomes.csv")

    (row,) = csv.DictReader(io.StringIO(text))
    assert rows == 1
    assert row == {
        "prompt": "one, two", "fast_correct": "1", "fast_cost": "0.001000000", "slow_correct": "0",
        "slow_cost": "0.000001200",
    }  # fmt: skip
    # As cost-quality routing reads it.
    assert (read.prompts, read.models) == (("one, two",), ("fast", "slow"))
    assert read.correct.tolist() == [[1, 0]]


def test_profile_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "profiles.json"

    first = write_profiles(path, {"old": measure(graded(False, route="billing"))}, before=None)
    write_profiles(path, {"new": measure(graded(True))}, before=first)

    read = read_profiles(path)
    assert read["old"].accuracy == 0
    assert read["old"].routes == {"billing": 0}
    assert read["old"].ethics is None
    assert read["new"].accuracy == 100
    assert [entry.name for entry in tmp_path.iterdir()] == ["profiles.json"]


def test_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    with pytest.raises(BadInput, match="can't be written"):
        write_text(tmp_path / "nowhere" / "file", "x", field="out")
    (tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "\ud800", field="out")
    assert (tmp_path / "file").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
