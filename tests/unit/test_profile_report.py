"""The report: one page that needs nothing else, with whatever was measured, and nothing in it but text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.evaluate.profiling.asking import EvalAnswer
from ops.evaluate.profiling.cases import Case, CaseSet
from ops.evaluate.profiling.charts import (
    ChartPoint,
    CostChart,
    LatencyChart,
    Times,
    axis_of,
    pareto,
    percent_axis,
    shown,
)
from ops.evaluate.profiling.html_report import MOST_WRONG, draw, render
from ops.evaluate.profiling.judging import CaseAnswer, GradedAnswer
from ops.evaluate.profiling.measure import profile_of
from tasks.config.profiles import EvalSet

VOID = {"meta", "line", "circle", "rect", "path", "br"}


class Page(HTMLParser):
    """Fails where tags don't close in order; collects texts and tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        # A paragraph may stay open in HTML; here none does.
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def graded(model: str, number: int, right: Any, message: str | None = "an answer", **fields: Any) -> GradedAnswer:
    given = {"text": f"question {number}", "id": str(number), **fields}
    if given.get("kind", "accuracy") == "accuracy":
        given.setdefault("expected", "x")
    answer = EvalAnswer(
        message, None if message is not None else "timed_out", cost_usd=0.002, latency_s=0.1 * (number + 1)
    )
    return GradedAnswer(
        CaseAnswer(model, Case.model_validate(given), 0, answer), right, "" if message is not None else "timed_out"
    )


def page_of(table: dict[str, list[GradedAnswer]], *, judge: str | None = None, priced: bool = True) -> str:
    cases = CaseSet("cases.jsonl", "0" * 64, tuple(item.case for item in next(iter(table.values()))))
    measured = {
        model: profile_of(
            items, measured_at="2026-11-22T12:00:00Z", run="r", judge=judge, priced=priced,
            eval_set=EvalSet(name=cases.name, sha256=cases.sha256, cases=len(cases.cases)),
        )
        for model, items in table.items()
    }  # fmt: skip
    return render(measured, table, cases)


def test_page_is_whole_and_loads_nothing():
    page = page_of(
        {
            "fast": [graded("fast", 0, True, route="billing"), graded("fast", 1, False, kind="safety", harmful=True)],
            "slow": [graded("slow", 0, False, "wrong words", route="billing"), graded("slow", 1, None, None)],
        }
    )
    read = Page(page)

    tags = [tag for tag, _ in read.tags]
    assert tags.count("svg") == 2
    assert not {"script", "link", "img", "iframe"} & set(tags)
    assert "http" not in page
    assert not re.search(r"url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    for word in ("Accuracy against cost", "Latency", "Accuracy by route", "billing", "wrong words", "1 timed_out"):
        assert word in read.text


def test_texts_are_escaped_and_cut_short():
    evil = "</td><script>alert(1)</script>" + "long " * 200
    name = "a<b>&c"
    page = page_of({name: [graded(name, 0, False, evil, text=evil, expected=[evil])]})
    read = Page(page)

    assert "script" not in {tag for tag, _ in read.tags}
    assert "<b>" not in page
    assert "long " * 100 not in read.text
    assert "alert(1)" in read.text


def test_scores_that_were_not_measured_are_named_so():
    page = page_of({"fast": [graded("fast", 0, None, None)]})
    assert Page(page).text.count("not measured") == 5
    assert "<svg" not in page


def test_models_without_a_price_are_not_drawn_as_free():
    page = page_of({"fast": [graded("fast", 0, True)]}, priced=False)
    assert "Accuracy against cost" not in page


def test_judge_among_the_judged_models_is_pointed_out():
    assert "judged itself" in page_of({"fast": [graded("fast", 0, True)]}, judge="fast")
    assert "judged itself" not in page_of({"fast": [graded("fast", 0, True)]}, judge="other")


def test_list_of_wrong_answers_is_cut():
    page = page_of({"fast": [graded("fast", number, False) for number in range(MOST_WRONG + 5)]})
    assert f"{MOST_WRONG + 5} wrong, the first {MOST_WRONG} are listed" in page
    assert page.count("<td>question ") == MOST_WRONG


# -- plots -----------------------------------------------------------------------------------------


def point(name: str, cost: float, accuracy: float) -> ChartPoint:
    return ChartPoint(name, 0, cost, accuracy, max(0.0, accuracy - 5), min(100.0, accuracy + 5))


def test_pareto_front_holds_the_points_that_no_other_beats_in_both():
    free, cheap, dear, worse = point("free", 0, 50), point("cheap", 1, 80), point("dear", 9, 90), point("worse", 5, 80)
    assert pareto([worse, dear, cheap, free]) == [free, cheap, dear]
    assert pareto([cheap, point("twin", 1, 70)]) == [cheap]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 100)), min_size=1, max_size=12))
def test_cost_chart_draws_every_model_within_the_picture(pairs):
    points = [point(f"model-{at}", cost, accuracy) for at, (cost, accuracy) in enumerate(pairs)]
    read = Page(draw(CostChart(points)))
    circles = [attrs for tag, attrs in read.tags if tag == "circle"]
    assert len(circles) == len(points)
    for attrs in circles:
        assert 0 <= float(attrs["cx"] or "nan") <= 760
        assert 0 <= float(attrs["cy"] or "nan") <= 380
    front = {at.name for at in pareto(points)}
    assert sum(attrs["class"] == "best" for attrs in circles) == len(front)


@settings(max_examples=40)
@given(st.lists(st.lists(st.floats(0, 600), min_size=1, max_size=30).map(sorted), min_size=1, max_size=5))
def test_latency_chart_draws_every_call_within_the_picture(models):
    drawn = [
        Times(f"m{at}", at, [calls[min(len(calls) - 1, step * len(calls) // 21)] for step in range(21)], calls)
        for at, calls in enumerate(models)
    ]
    read = Page(draw(LatencyChart(drawn)))
    circles = [attrs for tag, attrs in read.tags if tag == "circle"]
    assert len(circles) == sum(map(len, models))
    assert all(0 <= float(attrs["cx"] or "nan") <= 760 for attrs in circles)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_axis_keeps_the_order_of_its_values(values):
    axis = axis_of(values, start=10, end=110)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 110 for place in places)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert len(axis.ticks) <= 40


def test_percent_axis_ends_at_100():
    axis = percent_axis([62.0], start=300, end=0)
    assert axis.place(100) == 0
    assert axis.place(62) > axis.place(90)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (0.0939, "0.0939"), (2.0, "2"), (0.25, "0.25"), (3e-7, "3.0e-07"), (999.6, "1000")],
)
def test_number_is_shown_with_three_digits(value, text):
    assert shown(value) == text
