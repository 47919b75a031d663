"""The plots of the report as SVG, written by hand: no library, no script, colours from the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ops.evaluate.profiling.axis import Axis, axis_of, percent_axis, shown

__all__ = ["COLOURS", "Point", "Times", "cost_accuracy", "latencies", "pareto"]

#: Colours of the style sheet, ``--c0`` and so on; then they repeat.
COLOURS = 8

WIDTH = 760
#: Pixels that a line of labels takes.
LINE = 15
#: Dots of one model that are drawn: more would be one grey bar.
MOST_DOTS = 400


@dataclass(frozen=True, slots=True)
class Point:
    """One model: what 1,000 answers cost in USD, and its accuracy in percent with the ends of the interval."""

    name: str
    colour: int
    cost: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Times:
    """The latencies of one model in seconds, at 0%, 5% … 100%, and those of its calls."""

    name: str
    colour: int
    quantiles: Sequence[float]
    calls: Sequence[float]


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both: from the cheapest on, each next one dearer and more accurate."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def cost_accuracy(points: Sequence[Point]) -> str:
    """Accuracy against cost, with intervals and the Pareto front."""
    height, left, right, top, bottom = 380, 58, 104, 18, 52
    y = percent_axis([point.low for point in points], start=height - bottom, end=top)
    paid = [point.cost for point in points if point.cost > 0]
    free = len(paid) < len(points)
    # On a logarithmic axis nothing has a place for free: it stands in a column of its own.
    x = axis_of(paid or [1.0], start=left + (56 if free else 12), end=WIDTH - right)
    column = free and x.log
    if free and not x.log:
        x = axis_of(paid or [1.0], start=left + 12, end=WIDTH - right)

    def across(point: Point) -> float:
        return left + 24 if column and point.cost == 0 else x.place(point.cost)

    parts = [*_grid_y(y, left, WIDTH - right, "%"), *_grid_x(x, top, height - bottom, "$")]
    if column:
        parts.append(_text(left + 24, height - bottom + 18, "free", "tick", "middle"))
        parts.append(_line(left + 46, top, left + 46, height - bottom, "grid"))
    parts.append(_text((left + WIDTH - right) / 2, height - 10, "USD for 1,000 answers", "axis", "middle"))
    front = pareto(points)
    steps = "".join(
        f"{'M' if place == 0 else 'H'}{across(point):.1f}"
        + (f",{y.place(point.accuracy):.1f}" if place == 0 else f"V{y.place(point.accuracy):.1f}")
        for place, point in enumerate(front)
    )
    parts.append(f'<path class="front" d="{steps}H{WIDTH - right}"/>')
    for point in points:
        at = across(point)
        told = f"{point.name}: {point.accuracy:.0f}% ({point.low:.0f}–{point.high:.0f}), ${shown(point.cost)} for 1,000"
        parts.append(
            f'<g class="c{point.colour % COLOURS}"><title>{escape(told)}</title>'
            + _line(at, y.place(point.low), at, y.place(point.high), "bar")
            + f'<circle class="{"best" if point in front else "dot"}" cx="{at:.1f}"'
            f' cy="{y.place(point.accuracy):.1f}" r="6"/></g>'
        )
    labels = [(across(point), y.place(point.accuracy), point.name) for point in points]
    parts += _labels(labels, bottom=height - bottom)
    return _svg(height, parts, "Accuracy against cost, with the Pareto front")


def latencies(models: Sequence[Times]) -> str:
    """A box a model: whiskers from 5% to 95%, the box from 25% to 75%, the median, and each call as a dot."""
    row, top, bottom, right = 46, 12, 46, 24
    left = 24 + min(190, max(7 * len(times.name) for times in models))
    height = top + row * len(models) + bottom
    ends = [value for times in models for value in (times.quantiles[0], times.quantiles[20])]
    positive = [max(value, 1e-4) for value in ends]
    x = axis_of(positive, start=left, end=WIDTH - right)
    parts = _grid_x(x, top, height - bottom, "", " s")
    parts.append(_text((left + WIDTH - right) / 2, height - 8, "seconds of a call", "axis", "middle"))
    for place, times in enumerate(models):
        middle = top + row * place + row / 2
        at = [x.place(value) for value in times.quantiles]
        q = times.quantiles
        told = (
            f"{times.name}: median {shown(q[10])} s, half of {shown(q[5])}–{shown(q[15])} s, 95% under {shown(q[19])} s"
        )
        parts.append(_text(left - 12, middle + 4, _short(times.name), "name", "end"))
        parts.append(f'<g class="c{times.colour % COLOURS}"><title>{escape(told)}</title>')
        parts += [
            f'<circle class="call" cx="{x.place(value):.1f}" cy="{middle + _jitter(number) * 15:.1f}" r="2"/>'
            for number, value in enumerate(_thinned(times.calls))
        ]
        parts.append(_line(at[1], middle, at[5], middle, "bar") + _line(at[15], middle, at[19], middle, "bar"))
        parts += [_line(end, middle - 6, end, middle + 6, "bar") for end in (at[1], at[19])]
        parts.append(
            f'<rect class="box" x="{at[5]:.1f}" y="{middle - 9:.1f}" width="{max(at[15] - at[5], 2):.1f}" height="18"'
            ' rx="3"/>'
        )
        parts.append(_line(at[10], middle - 9, at[10], middle + 9, "median") + "</g>")
    return _svg(height, parts, "Latencies of the models")


def _labels(wanted: Sequence[tuple[float, float, str]], *, bottom: float) -> list[str]:
    """Names to the right of their points, pushed away where they would cover another: down, or up near the bottom."""
    taken: list[tuple[float, float, float]] = []
    parts: list[str] = []
    high = sorted((label for label in wanted if label[1] < bottom - 4 * LINE), key=lambda label: label[1])
    low = sorted((label for label in wanted if label[1] >= bottom - 4 * LINE), key=lambda label: -label[1])
    for step, (x, y, name) in [(3, label) for label in high] + [(-3, label) for label in low]:
        text, at = _short(name), y + 4
        width = 7.6 * len(text)
        while any(abs(at - other) < LINE and x < end and x + width > begin for begin, end, other in taken):
            at += step
        taken.append((x, x + width, at))
        if abs(at - y - 4) > 4:
            parts.append(_line(x + 6, y, x + 11, at - 4, "leader"))
        parts.append(_text(x + 12, at, text, "name"))
    return parts


def _grid_y(axis: Axis, left: float, right: float, unit: str) -> list[str]:
    parts: list[str] = []
    for tick in axis.ticks:
        at = axis.place(tick)
        parts.append(
            _line(left, at, right, at, "grid") + _text(left - 8, at + 4, f"{shown(tick)}{unit}", "tick", "end")
        )
    return parts


def _grid_x(axis: Axis, top: float, bottom: float, before: str, after: str = "") -> list[str]:
    parts: list[str] = []
    for tick in axis.ticks:
        at = axis.place(tick)
        label = f"{before}{shown(tick)}{after}"
        parts.append(_line(at, top, at, bottom, "grid") + _text(at, bottom + 18, label, "tick", "middle"))
    return parts


def _thinned(calls: Sequence[float]) -> Sequence[float]:
    return calls if len(calls) <= MOST_DOTS else calls[:: -(-len(calls) // MOST_DOTS)]


def _jitter(number: int) -> float:
    """From -1 to 1, evenly spread, the same at every drawing: the golden ratio's multiples."""
    return 2 * ((number * 0.6180339887) % 1) - 1


def _short(name: str) -> str:
    return name if len(name) <= 26 else name[:25] + "…"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
