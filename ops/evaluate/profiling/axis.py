"""Axes of a plot: where a value stands, and where round numbers do. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axis", "axis_of", "percent_axis", "shown"]

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
