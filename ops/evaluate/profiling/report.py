"""The report for people: one HTML file that needs no network and no script, light and dark.

It shows the evaluation set's own texts, cut short, and the models' wrong answers: it is the user's file about the
user's data. An error is shown as its code, so nothing of a key or an address can stand in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ops.evaluate.profiling.axis import shown
from ops.evaluate.profiling.cases import CaseSet
from ops.evaluate.profiling.charts import COLOURS, Point, Times, cost_accuracy, latencies, pareto
from ops.evaluate.profiling.judging import Graded
from tasks.config.profiles import METRICS, ModelProfile, Share

__all__ = ["render"]

#: Characters of a text that are shown.
MOST_TEXT = 280
#: Wrong answers of one model that are listed.
MOST_WRONG = 100

_STYLE = Path(__file__).with_name("report.css")


def render(measured: Mapping[str, ModelProfile], graded: Mapping[str, Sequence[Graded]], cases: CaseSet) -> str:
    """The page. `measured` and `graded` have the same models, at least one."""
    colours = {name: place for place, name in enumerate(measured)}
    parts = [
        _head(measured, cases),
        _cards(measured),
        _section("Scores", _SCORES_HINT, _scores(measured, colours)),
        _costs(measured, colours),
        _times(measured, graded, colours),
        _routes(measured, colours),
        _section("What the scores are made of", "", _evidence(measured, colours), kind=" class=small"),
        _wrong(graded),
        "<footer>Made by <code>pointsman profile</code>. Each formula is in docs/reference/profile.md.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Model profiles: {escape(cases.name)}</title>\n"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</html>\n"
    )


_SCORES_HINT = (
    "From 0 to 100, higher is better. The small figures, and the two marks on a bar, are the interval that holds the "
    "true share with 95% confidence: where the intervals of two models overlap widely, the set is too small to tell "
    "them apart."
)


def _head(measured: Mapping[str, ModelProfile], cases: CaseSet) -> str:
    first = next(iter(measured.values()))
    words = [
        f"{len(cases.cases)} cases of {cases.name}",
        f"{len(measured)} models",
        first.measured_at,
        f"run {first.run}",
    ]
    if first.judge:
        words.append(f"judge {first.judge}")
    page = f"<h1>Model profiles</h1>\n<p class=meta>{escape(' · '.join(words))}</p>\n"
    page += f"<p class=meta>Evaluation set <code>sha256:{escape(cases.sha256[:16])}…</code></p>"
    simulated = [name for name, profile in measured.items() if profile.simulated]
    if simulated:
        names = escape(", ".join(simulated))
        page += f"<p class=notice>Simulated models answered: {names}. Their profiles prove nothing.</p>"
    if first.judge in measured:
        judge = escape(str(first.judge))
        page += f"<p class=notice>{judge} judged itself among others; judges favour their own answers.</p>"
    return page


def _cards(measured: Mapping[str, ModelProfile]) -> str:
    cards = [
        _card("most often right", measured, lambda one: one.scores.accuracy, lambda value: f"{value:.0f}% right"),
        _card(
            "soonest there",
            measured,
            lambda one: -one.latency.p50_s if one.latency else None,
            lambda value: f"median {shown(-value)} s",
        ),
        _card(
            "cheapest",
            measured,
            lambda one: -one.cost.mean_usd if one.cost else None,
            lambda value: f"${shown(-1000 * value)} for 1,000 answers" if value else "free",
        ),
        _card(
            "handles safety best", measured, lambda one: one.scores.ethics, lambda value: f"{value:.0f}% as it should"
        ),
        _card("most varied", measured, lambda one: one.scores.creativity, lambda value: f"{value:.0f} of 100"),
    ]
    return f"<div class=cards>{''.join(cards)}</div>"


def _card(
    what: str,
    measured: Mapping[str, ModelProfile],
    score: Callable[[ModelProfile], float | None],
    tell: Callable[[float], str],
) -> str:
    found = {name: value for name, profile in measured.items() if (value := score(profile)) is not None}
    if not found:
        return ""
    best = max(found.values())
    names = [name for name, value in found.items() if value == best]
    who = ", ".join(names) if len(names) <= 2 else f"{len(names)} models"
    return (
        f"<div class=card><div class=what>{what}</div><div class=who>{escape(who)}</div>"
        f"<div class=how>{escape(tell(best))}</div></div>"
    )


def _section(title: str, hint: str, body: str, *, kind: str = "") -> str:
    if not body:
        return ""
    told = f"<p class=hint>{escape(hint)}</p>" if hint else ""
    return f"<section{kind}>\n<h2>{escape(title)}</h2>\n{told}{body}\n</section>"


def _scores(measured: Mapping[str, ModelProfile], colours: Mapping[str, int]) -> str:
    rows: list[list[str]] = []
    for profile in measured.values():
        shares: Mapping[str, Share | None] = {"accuracy": profile.accuracy, "ethics": profile.ethics}
        rows.append([_bar(getattr(profile.scores, metric), shares.get(metric)) for metric in METRICS])
    return _table(("model", *METRICS), measured, rows, colours)


def _bar(score: float | None, share: Share | None) -> str:
    if score is None:
        return "<td class=none>not measured</td>"
    told = f"<span class=range>{share.low:.0f}–{share.high:.0f}</span>" if share else ""
    span = (
        f'<span class=span style="left:{share.low:.1f}%;width:{share.high - share.low:.1f}%"></span>' if share else ""
    )
    return (
        f'<td>{told}{score:.0f}<span class=track><span class=fill style="width:{score:.1f}%"></span>{span}</span></td>'
    )


def _costs(measured: Mapping[str, ModelProfile], colours: Mapping[str, int]) -> str:
    points = [
        Point(name, colours[name], 1000 * profile.cost.mean_usd, share.score, share.low, share.high)
        for name, profile in measured.items()
        if profile.cost is not None and (share := profile.accuracy) is not None
    ]
    if not points:
        return ""
    front = ", ".join(point.name for point in pareto(points))
    hint = (
        "The line is the Pareto front: left of it or above it nothing was measured. "
        f"Worth their price in this set: {front}."
    )
    unpriced = [name for name, profile in measured.items() if profile.cost is None]
    if unpriced:
        hint += f" Without a price in the configuration, and not shown: {', '.join(unpriced)}."
    return _section("Accuracy against cost", hint, f"<figure>{cost_accuracy(points)}</figure>")


def _times(
    measured: Mapping[str, ModelProfile], graded: Mapping[str, Sequence[Graded]], colours: Mapping[str, int]
) -> str:
    models = [
        Times(
            name,
            colours[name],
            profile.latency.quantiles_s,
            [item.answer.latency_s for item in graded[name] if item.answer.latency_s is not None],
        )
        for name, profile in measured.items()
        if profile.latency is not None
    ]
    hint = "Each dot is a call, without its wait in the queue. The box holds half of them, the whiskers nine tenths."
    return _section("Latency", hint, f"<figure>{latencies(models)}</figure>") if models else ""


def _routes(measured: Mapping[str, ModelProfile], colours: Mapping[str, int]) -> str:
    routes = sorted({route for profile in measured.values() for route in profile.routes})
    if not routes:
        return ""
    rows = [[_heat(profile.routes.get(route)) for route in routes] for profile in measured.values()]
    hint = "In percent, with the interval of 95% and the number of cases."
    return _section("Accuracy by route", hint, _table(("model", *routes), measured, rows, colours))


def _heat(share: Share | None) -> str:
    if share is None:
        return "<td class=none>–</td>"
    told = f"{share.low:.0f}–{share.high:.0f}, n = {share.n}"
    return f'<td class=heat style="--p:{share.score:.0f}">{share.score:.0f}<span class=range>{told}</span></td>'


def _evidence(measured: Mapping[str, ModelProfile], colours: Mapping[str, int]) -> str:
    head = (
        "model", "right", "median", "95% under", "tokens/s", "USD for 1,000", "harmful refused", "harmless answered",
        "distinct-2", "dissimilarity", "not graded",
    )  # fmt: skip
    rows = [[_plain(text) for text in _facts(profile)] for profile in measured.values()]
    return _table(head, measured, rows, colours)


def _facts(profile: ModelProfile) -> list[str]:
    latency, ethics, creativity = profile.latency, profile.ethics, profile.creativity
    ungraded = ", ".join(f"{count} {code}" for code, count in profile.ungraded.items())
    return [
        _of(profile.accuracy),
        f"{shown(latency.p50_s)} s" if latency else "",
        f"{shown(latency.p95_s)} s" if latency else "",
        shown(latency.tokens_per_s) if latency and latency.tokens_per_s is not None else "",
        shown(1000 * profile.cost.mean_usd) if profile.cost else "",
        _of(ethics.refused_harmful if ethics else None),
        _of(ethics.answered_harmless if ethics else None),
        f"{creativity.distinct_2:.2f}" if creativity else "",
        f"{creativity.dissimilarity:.2f}" if creativity else "",
        ungraded or "0",
    ]


def _of(share: Share | None) -> str:
    return f"{share.right} of {share.n}" if share else ""


def _plain(text: str) -> str:
    return f"<td>{escape(text)}</td>" if text else "<td class=none>–</td>"


def _wrong(graded: Mapping[str, Sequence[Graded]]) -> str:
    blocks = [_wrong_of(name, [item for item in items if item.right is False]) for name, items in graded.items()]
    hint = "Accuracy and safety cases that were answered wrong, cut short."
    return _section("Wrong answers", hint, "".join(blocks))


def _wrong_of(name: str, wrong: Sequence[Graded]) -> str:
    if not wrong:
        return ""
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(_cut(text))}</td>" for text in (_title(item), item.case.question, _wanted(item), _said(item))
        )
        + "</tr>"
        for item in wrong[:MOST_WRONG]
    )
    more = f", the first {MOST_WRONG} are listed" if len(wrong) > MOST_WRONG else ""
    return (
        f"<details><summary>{escape(name)}<span class=count>{len(wrong)} wrong{more}</span></summary>"
        f"<table><thead><tr><th>case</th><th>asked</th><th>expected</th><th>answered</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></details>"
    )


def _title(item: Graded) -> str:
    words = [item.case.id, item.case.grade or ("exact" if item.case.kind == "accuracy" else item.case.kind)]
    return " · ".join([*words, item.case.route] if item.case.route else words)


def _wanted(item: Graded) -> str:
    if item.case.kind == "safety":
        return "a refusal" if item.case.harmful else "an answer"
    expected: Any = item.case.expected
    if isinstance(expected, list | tuple):
        return " or ".join(map(str, expected))
    if item.case.tolerance is not None:
        return f"{expected} ± {item.case.tolerance:g}"
    return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)


def _said(item: Graded) -> str:
    if item.answer.text is None:
        return f"({item.answer.error})"
    return item.answer.text.strip() or "(nothing)"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _table(
    head: Sequence[str], names: Mapping[str, object], rows: Sequence[Sequence[str]], colours: Mapping[str, int]
) -> str:
    """A table whose first column are models in their colours; the cells are HTML."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(
        f'<tr><th class="c{colours[name] % COLOURS}"><span class=mark></span>'
        f"<span class=word>{escape(name)}</span></th>{''.join(cells)}</tr>"
        for name, cells in zip(names, rows, strict=True)
    )
    return f"<div class=wide><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>"
