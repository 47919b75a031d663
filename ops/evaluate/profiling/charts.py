"""The geometry of the report's charts: where points, boxes and labels stand. ``charts.html`` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Above this ratio of the largest to the smallest value an axis is logarithmic.
LOG_FROM = 8.0
#: … over at most this ratio; what is smaller stands at its beginning.
MOST_RATIO = 1e6
#: Smaller values count as zero: no clock and no price resolves them.
NOTHING = 1e-12
#: Ticks of a linear axis, about.
TICKS = 5


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end`, which may run downwards."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """The pixel of a value; of one beyond the ends, that of the end."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        share = math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low)
        return self.start + share * (self.end - self.start)


def axis_of(values: Sequence[float], *, start: float, end: float) -> Axis:
    """An axis that holds all values with a little room, from 0 on or, for positive values far apart, logarithmic."""
    most = max(values) if max(values) > NOTHING else 0.0
    least = min(values) if min(values) <= 0 else max(min(values), most / MOST_RATIO)
    if least > 0 and most / least > LOG_FROM:
        low, high = least / 1.25, most * 1.25
        return Axis(low, high, start, end, log=True, ticks=_log_ticks(low, high))
    high = most * 1.08 or 1.0
    step = _step(high / TICKS)
    ticks = tuple(round(step * number, 12) for number in range(int(high / step) + 1))
    return Axis(0.0, high, start, end, log=False, ticks=ticks)


def percent_axis(lows: Sequence[float], *, start: float, end: float) -> Axis:
    """An axis of percent that ends at 100 and begins at a multiple of 10 below all of `lows`."""
    low = min(80.0, max(0.0, math.floor(min(lows, default=0.0) / 10) * 10.0 - 5))
    step = 10 if low >= 40 else 20
    ticks = tuple(float(value) for value in range(0, 101, step) if value >= low)
    return Axis(low, 100.0, start, end, log=False, ticks=ticks)


def _step(rough: float) -> float:
    """The next of 1, 2, 5, 10 … above."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    digits = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return tuple(value for power in powers for digit in digits if low <= (value := digit * 10.0**power) <= high)


def shown(value: float) -> str:
    """A number in few characters: three significant digits, no exponent in the usual range."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-5:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


WIDTH = 760
#: Pixels that a line of labels takes.
LINE = 15
#: Pixels that a letter takes, and letters of a name that are shown.
LETTER, MOST_LETTERS = 8.2, 24
#: Dots of one model that are drawn: more would be one grey bar.
MOST_DOTS = 400


@dataclass(frozen=True, slots=True)
class ChartPoint:
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


@dataclass(frozen=True, slots=True)
class Label:
    """The name of the point at (x, y); the text stands at the height `at`."""

    name: str
    x: float
    y: float
    at: float

    @property
    def moved(self) -> bool:
        return abs(self.at - self.y - 4) > 4


def pareto(points: Sequence[ChartPoint]) -> list[ChartPoint]:
    """The points that no other beats in both: from the cheapest on, each next one dearer and more accurate."""
    front: list[ChartPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


class CostChart:
    """Accuracy against cost, with intervals and the Pareto front."""

    width, height, left, top, bottom = WIDTH, 380, 58, 18, 380 - 52

    def __init__(self, points: Sequence[ChartPoint]) -> None:
        self.points = points
        self.right = WIDTH - 20 - max(LETTER * len(_short(point.name)) for point in points)
        self.front = pareto(points)
        self.y = percent_axis([point.low for point in points], start=self.bottom, end=self.top)
        paid = [point.cost for point in points if point.cost > 0]
        free = len(paid) < len(points)
        self.x = self._cost_axis(paid, indent=56 if free else 12)
        # A logarithmic axis has no place for free: it stands in a column of its own.
        self.free_column = free and self.x.log
        if free and not self.free_column:
            self.x = self._cost_axis(paid, indent=12)
        self.labels = _labels([(self.across(p), self.y.place(p.accuracy), p.name) for p in points], bottom=self.bottom)

    def _cost_axis(self, paid: Sequence[float], *, indent: int) -> Axis:
        return axis_of(paid or [1.0], start=self.left + indent, end=self.right)

    def across(self, point: ChartPoint) -> float:
        return self.left + 24 if self.free_column and point.cost == 0 else self.x.place(point.cost)


class LatencyChart:
    """A box a model: whiskers from 5% to 95%, the box from 25% to 75%, the median, and each call as a dot."""

    width, top, right = WIDTH, 12, WIDTH - 24
    _row = 46

    def __init__(self, models: Sequence[Times]) -> None:
        self.left = 24 + max(LETTER * len(_short(times.name)) for times in models)
        self.bottom = self.top + self._row * len(models)
        self.height = self.bottom + 46
        ends = [value for times in models for value in (times.quantiles[0], times.quantiles[20])]
        self.x = axis_of([max(value, 1e-4) for value in ends], start=self.left, end=self.right)
        self.rows = [
            LatencyRow(times, self.x, self.top + self._row * (place + 0.5)) for place, times in enumerate(models)
        ]


class LatencyRow:
    """One model's box: the pixels of its quantiles in `at`, and its calls as (x, distance from the middle)."""

    def __init__(self, times: Times, axis: Axis, middle: float) -> None:
        self.times, self.middle, self.name = times, middle, _short(times.name)
        self.at = [axis.place(value) for value in times.quantiles]
        calls = times.calls[:: -(-len(times.calls) // MOST_DOTS) or 1]
        self.dots = [(axis.place(value), 15 * _jitter(number)) for number, value in enumerate(calls)]

    @property
    def title(self) -> str:
        low, median, high, most = (shown(self.times.quantiles[at]) for at in (5, 10, 15, 19))
        return f"{self.times.name}: median {median} s, half of {low}–{high} s, 95% under {most} s"


def _labels(wanted: Sequence[tuple[float, float, str]], *, bottom: float) -> list[Label]:
    """Names to the right of their points, pushed away where they would cover another: down, or up near the bottom."""
    taken: list[tuple[float, float, float]] = []
    labels: list[Label] = []
    high = sorted((label for label in wanted if label[1] < bottom - 4 * LINE), key=lambda label: label[1])
    low = sorted((label for label in wanted if label[1] >= bottom - 4 * LINE), key=lambda label: -label[1])
    for step, (x, y, name) in [(3, label) for label in high] + [(-3, label) for label in low]:
        text, at = _short(name), y + 4
        width = LETTER * len(text)
        while any(abs(at - other) < LINE and x < end and x + width > begin for begin, end, other in taken):
            at += step
        taken.append((x, x + width, at))
        labels.append(Label(text, x, y, at))
    return labels


def _jitter(number: int) -> float:
    """From -1 to 1, evenly spread, the same at every drawing: the golden ratio's multiples."""
    return 2 * ((number * 0.6180339887) % 1) - 1


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"
