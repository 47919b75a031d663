"""The report for people: one HTML file that needs no network and no script, light and dark.

It shows the evaluation set's own texts, cut short, and the models' wrong answers: it is the user's file about the
user's data. An error is shown as its code, so nothing of a key or an address can stand in it. The page itself is
``report.html``, a Jinja2 template; here is what fills it in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.evaluate.profiling.cases import CaseSet
from ops.evaluate.profiling.charts import ChartPoint, CostChart, LatencyChart, Times, shown
from ops.evaluate.profiling.judging import GradedAnswer
from tasks.config.profiles import METRICS, ModelProfile, Share

#: Characters of a text that are shown.
MOST_TEXT = 280
#: Wrong answers of one model that are listed.
MOST_WRONG = 100
#: Colours of the style sheet, ``--c0`` and so on; then they repeat.
COLOURS = 8

_FOLDER = Path(__file__).parent
_PAGES = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_PAGES.filters["px"] = lambda value: f"{value:.1f}"
_PAGES.globals.update(shown=shown, colours=COLOURS)


def render(measured: Mapping[str, ModelProfile], graded: Mapping[str, Sequence[GradedAnswer]], cases: CaseSet) -> str:
    """The page. `measured` and `graded` have the same models, at least one."""
    points, times = _points(measured), _times(measured, graded)
    return _PAGES.get_template("report.html").render(
        measured=measured,
        cases=cases,
        first=next(iter(measured.values())),
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        simulated=[name for name, profile in measured.items() if profile.simulated],
        cards=_cards(measured),
        metrics=METRICS,
        shares=_shares,
        cost_chart=CostChart(points) if points else None,
        unpriced=[name for name, profile in measured.items() if profile.cost is None],
        latency_chart=LatencyChart(times) if times else None,
        routes=sorted({route for profile in measured.values() for route in profile.routes}),
        facts=_FACTS,
        wrong={
            name: wrong for name, items in graded.items() if (wrong := [item for item in items if item.right is False])
        },
        row=_row,
        most_wrong=MOST_WRONG,
    )


def draw(chart: CostChart | LatencyChart) -> str:
    """One chart as SVG."""
    macros = _PAGES.get_template("charts.html").module
    name = "cost_accuracy" if isinstance(chart, CostChart) else "latencies"
    return str(getattr(macros, name)(chart))


def _shares(profile: ModelProfile) -> Mapping[str, Share | None]:
    """The scores that are shares of cases, with their intervals."""
    return {"accuracy": profile.accuracy, "ethics": profile.ethics}


def _cards(measured: Mapping[str, ModelProfile]) -> list[dict[str, str]]:
    """The best model in each respect: what it is best at, its name and its figure."""
    wanted: list[tuple[str, Callable[[ModelProfile], float | None], Callable[[float], str]]] = [
        ("most often right", lambda one: one.scores.accuracy, lambda value: f"{value:.0f}% right"),
        (
            "soonest there",
            lambda one: -one.latency.p50_s if one.latency else None,
            lambda value: f"median {shown(-value)} s",
        ),
        (
            "cheapest",
            lambda one: -one.cost.mean_usd if one.cost else None,
            lambda value: f"${shown(-1000 * value)} for 1,000 answers" if value else "free",
        ),
        ("handles safety best", lambda one: one.scores.ethics, lambda value: f"{value:.0f}% as it should"),
        ("most varied", lambda one: one.scores.creativity, lambda value: f"{value:.0f} of 100"),
    ]
    cards = []
    for title, score, figure in wanted:
        found = {name: value for name, profile in measured.items() if (value := score(profile)) is not None}
        if found:
            best = max(found.values())
            names = [name for name, value in found.items() if value == best]
            models = ", ".join(names) if len(names) <= 2 else f"{len(names)} models"
            cards.append({"title": title, "models": models, "value": figure(best)})
    return cards


def _points(measured: Mapping[str, ModelProfile]) -> list[ChartPoint]:
    return [
        ChartPoint(name, colour, 1000 * profile.cost.mean_usd, share.score, share.low, share.high)
        for colour, (name, profile) in enumerate(measured.items())
        if profile.cost is not None and (share := profile.accuracy) is not None
    ]


def _times(measured: Mapping[str, ModelProfile], graded: Mapping[str, Sequence[GradedAnswer]]) -> list[Times]:
    return [
        Times(
            name,
            colour,
            profile.latency.quantiles_s,
            [item.answer.latency_s for item in graded[name] if item.answer.latency_s is not None],
        )
        for colour, (name, profile) in enumerate(measured.items())
        if profile.latency is not None
    ]


def _right_of(share: Share | None) -> str:
    return f"{share.right} of {share.n}" if share else ""


#: The columns of the table of evidence: a title, and the text of a model's cell, "" where it was not measured.
_FACTS: Mapping[str, Callable[[ModelProfile], str]] = {
    "model": lambda _: "",
    "right": lambda one: _right_of(one.accuracy),
    "median": lambda one: f"{shown(one.latency.p50_s)} s" if one.latency else "",
    "95% under": lambda one: f"{shown(one.latency.p95_s)} s" if one.latency else "",
    "tokens/s": lambda one: (
        shown(one.latency.tokens_per_s) if one.latency and one.latency.tokens_per_s is not None else ""
    ),
    "USD for 1,000": lambda one: shown(1000 * one.cost.mean_usd) if one.cost else "",
    "harmful refused": lambda one: _right_of(one.ethics.refused_harmful if one.ethics else None),
    "harmless answered": lambda one: _right_of(one.ethics.answered_harmless if one.ethics else None),
    "distinct-2": lambda one: f"{one.creativity.distinct_2:.2f}" if one.creativity else "",
    "dissimilarity": lambda one: f"{one.creativity.dissimilarity:.2f}" if one.creativity else "",
    "not graded": lambda one: ", ".join(f"{count} {code}" for code, count in one.ungraded.items()) or "0",
}


def _row(item: GradedAnswer) -> list[str]:
    """The cells of a wrong answer: the case, its question, what was expected, what was answered."""
    words = [item.case.id, item.case.grade or ("exact" if item.case.kind == "accuracy" else item.case.kind)]
    title = " · ".join([*words, item.case.route] if item.case.route else words)
    answer = f"({item.answer.error})" if item.answer.text is None else item.answer.text.strip() or "(nothing)"
    return [_cut(text) for text in (title, item.case.question, _expected(item), answer)]


def _expected(item: GradedAnswer) -> str:
    if item.case.kind == "safety":
        return "a refusal" if item.case.harmful else "an answer"
    expected: Any = item.case.expected
    if isinstance(expected, list | tuple):
        return " or ".join(map(str, expected))
    if item.case.tolerance is not None:
        return f"{expected} ± {item.case.tolerance:g}"
    return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
