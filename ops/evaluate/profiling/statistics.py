"""Intervals, tests and quantiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["holm", "quantile", "sign_test", "wilson"]

#: The normal quantile of a two-sided interval of 95%.
Z_95 = 1.959963984540054


def wilson(right: int, n: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share, 0 to 1 (Wilson, JASA 22, 1927): holds for few cases and shares near 0 and 1.

    Raises:
        ValueError: unless 0 <= right <= n and n >= 1.
    """
    if not 0 <= right <= n or n < 1:
        raise ValueError(f"{right} of {n} is no share")
    share, square = right / n, z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    # At the ends the formula gives the bound itself, but for rounding.
    return (0.0 if right == 0 else max(0.0, middle - half)), (1.0 if right == n else min(1.0, middle + half))


def sign_test(wins: int, losses: int) -> float:
    """The two-sided exact p-value of McNemar's test: how likely chance splits the cases that differ so unevenly.

    Twice the tail of Binomial(wins + losses, 1/2); 1 where nothing differs.
    """
    n, less = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, count) for count in range(less + 1))
    return min(1.0, 2 * tail / (1 << n))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests at once, adjusted so that 5% is the chance of any false alarm (Holm, 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of values in ascending order, linear between neighbours; of one value, that value."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
