"""How sure a vote is of its leader: the Beta posterior over the two ballots that lead.

Of the voters that name one of the two a share θ names the first; with a flat prior, and `a` and `b` votes seen,
θ ~ Beta(a + 1, b + 1).

Source: Aggarwal, Madaan, Yang, Mausam, "Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and
Coding with LLMs", EMNLP 2023, who stop where P(θ > ½) is high: as if there were voters without end. But a vote has its
`n`, and only its own outcome is wanted. The chance that the leader is ahead once all `n` have voted follows from the
same posterior, as a Beta-binomial, and is theirs where `n` goes to infinity.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

__all__ = ["enough_votes", "posterior", "staying"]


def posterior(first: int, second: int) -> float:
    """P(θ > ½) for θ ~ Beta(first + 1, second + 1): how sure `first` votes against `second` make of voters at large.

    The incomplete beta function at ½ is, for whole numbers, a sum of binomials: the chance that of first + second + 1
    throws of a fair coin at most `first` are heads. Exact but for the last rounding.
    """
    throws = first + second + 1
    return float(Fraction(sum(math.comb(throws, heads) for heads in range(first + 1)), 1 << throws))


def staying(first: int, second: int, n: int) -> float:
    """The chance that who leads by `first` votes to `second` still does, or ties, when all `n` have voted.

    Ties are the leader's: it got there first. All that are outstanding are taken to vote for one of the two, which is
    when they can change most.

    As Pólya's urn has it, `k` of the outstanding r = n − first − second go to the leader with chance
    C(first + k, k) · C(second + r − k, r − k) / C(n + 1, r). So k is distributed as the unmarked among n + 1 places
    before the one that is marked (first + 1)-th of first + second + 1, and the tail of that is one of the
    hypergeometric distribution: of ⌈n/2⌉ places drawn from n + 1 at most `first` are marked.
    """
    marked, drawn = first + second + 1, (n + 1) // 2
    ways = sum(
        math.comb(marked, hits) * math.comb(n + 1 - marked, drawn - hits) for hits in range(min(first, drawn) + 1)
    )
    return float(Fraction(ways, math.comb(n + 1, drawn)))


@lru_cache(maxsize=64)
def enough_votes(n: int, confidence: float) -> tuple[int, ...]:
    """For each count `b` of the runner-up from 0 to `n`: the least votes with which a leader surely stays one.

    Surely: `staying` is at least `confidence`. It is more than `b` always, as a tie is no lead, and `n` + 1, which
    nobody reaches, where `n` voters are too few.

    One pass over whole numbers: as `b` grows so does the least `a`, and `staying` of the next pair follows from that of
    the last one. One more place is marked, and it is among those drawn or not.
    """
    drawn = (n + 1) // 2
    # As it is written: 0.9 is nine tenths, not the binary number beside it, which some chances just miss.
    least_ways = Fraction(str(confidence)) * math.comb(n + 1, drawn)
    first, marked = 0, 1
    # Ways to draw at most `first` of the marked places.
    ways = math.comb(n, drawn)
    table: list[int] = []
    for second in range(n + 1):
        while first + second <= n and (first <= second or ways < least_ways):
            # So many draws with exactly one hit more, and that which is marked next not among them.
            ways += _draws(marked, first + 1, n - marked, drawn)
            first, marked = first + 1, marked + 1
        table.append(first if first + second <= n else n + 1)
        # So many with exactly `first` hits, and that which is marked next among them: one hit too many.
        ways -= _draws(marked, first, n - marked, drawn - 1)
        marked += 1
    return tuple(table)


def _draws(marked: int, hits: int, others: int, drawn: int) -> int:
    """Ways to draw `drawn` places of `marked` and `others` with so many `hits` among the marked."""
    if others < 0 or drawn < hits:
        return 0
    return math.comb(marked, hits) * math.comb(others, drawn - hits)
