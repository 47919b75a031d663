"""Intervals, tests, quantiles, and how varied several answers to one prompt are. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

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


#: Words of an answer that count: distinct-n falls with length, so that long answers would look alike.
WORDS = 100

_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Diversity:
    """Two measures of the literature, each from 0 (all the same) to 1. Neither says how good answers are.

    `distinct_2`: the share of different word pairs among all word pairs (Li et al., arXiv:1510.03055). `dissimilarity`:
    the mean of 1 - Jaccard's index of the word pairs of two answers (as self-BLEU, Zhu et al., arXiv:1802.01886, but
    symmetric and without a tuned smoothing).
    """

    distinct_2: float
    dissimilarity: float

    @property
    def mean(self) -> float:
        return (self.distinct_2 + self.dissimilarity) / 2


def diversity(answers: Sequence[str]) -> Diversity | None:
    """Of the answers to one prompt; None for fewer than two that say something."""
    counted = [pairs for answer in answers if (pairs := _pairs(answer))]
    if len(counted) < 2:
        return None
    everything = [pair for pairs in counted for pair in pairs]
    apart = [1 - _jaccard(set(one), set(other)) for one, other in combinations(counted, 2)]
    return Diversity(len(set(everything)) / len(everything), sum(apart) / len(apart))


def _pairs(answer: str) -> list[tuple[str, str]]:
    """Neighbouring words of the beginning; a single word stands beside its end."""
    words = _words(answer)[:WORDS]
    return list(pairwise(words)) if len(words) > 1 else [(words[0], "")] if words else []


def _words(answer: str) -> list[str]:
    """Runs of letters, whatever their case; in scripts without spaces each letter counts as a word."""
    words: list[str] = []
    run = ""
    for letter in answer.casefold():
        if "⺀" <= letter <= "鿿" or "฀" <= letter <= "๿":
            words += [run, letter] if run else [letter]
            run = ""
        elif _WORD.match(letter) or (letter in "'’" and run):
            run += letter
        elif run:
            words.append(run)
            run = ""
    return [*words, run] if run else words


def _jaccard(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> float:
    return len(one & other) / len(one | other)
