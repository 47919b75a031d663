"""Count votes: the answer that most takes of one task agree on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Count", "Vote", "count", "shown"]

#: Characters of a ballot that `details` show in full: free text makes long ones.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote: the part's index, the ballot ("" abstains), what the model wrote, and what the vote weighs."""

    index: int
    ballot: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """The outcome of a vote.

    `winner` is the first take, in index order, with the winning ballot; None when nothing was counted. `votes` is what
    its ballot weighs, `total` what all that were counted weigh. `ballots` go from ballot to weight, `cast` from ballot
    to the parts that cast it, both in order of appearance; `abstained` are the parts that cast none. `tie` names every
    ballot with the most votes, the winner's first, and is empty when the winner is alone.
    """

    winner: Vote | None
    votes: float
    total: float
    ballots: Mapping[str, float]
    cast: Mapping[str, tuple[int, ...]]
    abstained: tuple[int, ...]
    tie: tuple[str, ...]


def count(takes: Sequence[Vote]) -> Count:
    """Count `takes`, given in index order; one without ballot or weight abstains.

    Of several ballots with the most votes the one that got there first in index order wins: the same answers give the
    same winner, whichever of them finished first.
    """
    ballots: dict[str, float] = {}
    cast: dict[str, list[int]] = {}
    firsts: dict[str, Vote] = {}
    abstained: list[int] = []
    reached: list[str] = []
    most = 0.0
    for take in takes:
        if not take.ballot or take.weight <= 0:
            abstained.append(take.index)
            continue
        firsts.setdefault(take.ballot, take)
        cast.setdefault(take.ballot, []).append(take.index)
        ballots[take.ballot] = votes = ballots.get(take.ballot, 0.0) + take.weight
        if votes > most:
            most, reached = votes, [take.ballot]
        elif votes == most:
            reached.append(take.ballot)
    return Count(
        firsts[reached[0]] if reached else None,
        most,
        sum(ballots.values()),
        ballots,
        {ballot: tuple(parts) for ballot, parts in cast.items()},
        tuple(abstained),
        tuple(reached) if len(reached) > 1 else (),
    )


def shown(ballot: str) -> str:
    """A ballot as `details` name it: a long one by its beginning and the beginning of its SHA-256."""
    if len(ballot) <= SHOWN:
        return ballot
    digest = hashlib.sha256(ballot.encode("utf-8", "replace")).hexdigest()
    return f"{ballot[: SHOWN - 18]}… {digest[:16]}"
