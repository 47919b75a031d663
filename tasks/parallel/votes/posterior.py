"""The confidence in the leader of a vote: the Beta posterior over the two leading ballots.

Of the voters for one of the two ballots a share θ votes for the first. With a flat prior, after `a` and `b` votes,
θ ~ Beta(a + 1, b + 1).

Source: Aggarwal, Madaan, Yang, Mausam, "Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and
Coding with LLMs", EMNLP 2023. They stop where P(θ > ½) is high, as if the number of voters were infinite. Our votes
have a fixed `n`, and only their own outcome matters: the chance that the leader is ahead after all `n` votes follows
from the same posterior, as a Beta-binomial, and equals theirs in the limit of infinite `n`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache


def posterior(first: int, second: int) -> float:
    """Return P(θ > ½) for θ ~ Beta(first + 1, second + 1): the confidence that most voters agree with the leader.

    For whole numbers, the incomplete beta function at ½ is a sum of binomials: the chance of at most `first` heads in
    first + second + 1 throws of a fair coin. Exact except for the last rounding.
    """
    throws = first + second + 1
    return float(Fraction(sum(math.comb(throws, heads) for heads in range(first + 1)), 1 << throws))


@lru_cache(maxsize=64)
def enough_votes(n: int, confidence: float) -> tuple[int, ...]:
    """Return, for each count `b` of the runner-up from 0 to `n`, the votes that a leader needs to stop the vote.

    It needs enough to lead, or tie, after all `n` votes with a chance of at least `confidence`, and always more than
    `b`, since a tie is no lead. The leader wins ties, since it reached the number first. All outstanding voters are
    assumed to vote for one of the two: the case in which they can change most. The entry is `n` + 1, an unreachable
    count, if `n` voters are too few.

    By Pólya's urn, `k` of the outstanding r = n − a − b votes go to the leader with chance C(a + k, k) ·
    C(b + r − k, r − k) / C(n + 1, r). So k is distributed like the number of unmarked places, of n + 1 places with
    a + b + 1 marked ones, before the (a + 1)-th marked one. The tail of this distribution is one of the hypergeometric
    distribution: of ⌈n/2⌉ places drawn from n + 1, at most `a` are marked.

    One pass over whole numbers: the least `a` grows with `b`, and the chance of the next pair follows from that of the
    last one, by one more marked place that is either among the drawn ones or not.
    """
    drawn = (n + 1) // 2
    # The decimal value: 0.9 is nine tenths, not the nearest binary number, which some chances just miss.
    least_ways = Fraction(str(confidence)) * math.comb(n + 1, drawn)
    first, marked = 0, 1
    # Ways to draw at most `first` of the marked places.
    ways = math.comb(n, drawn)
    table: list[int] = []
    for second in range(n + 1):
        while first + second <= n and (first <= second or ways < least_ways):
            # Add the draws with exactly one hit more and without the next marked place.
            ways += _count_draws(marked, first + 1, n - marked, drawn)
            first, marked = first + 1, marked + 1
        table.append(first if first + second <= n else n + 1)
        # Subtract the draws with exactly `first` hits and the next marked place: one hit too many.
        ways -= _count_draws(marked, first, n - marked, drawn - 1)
        marked += 1
    return tuple(table)


def _count_draws(marked: int, hits: int, others: int, drawn: int) -> int:
    """Return the ways to draw `drawn` of `marked` and `others` places with so many `hits` among the marked."""
    if others < 0 or drawn < hits:
        return 0
    return math.comb(marked, hits) * math.comb(others, drawn - hits)
