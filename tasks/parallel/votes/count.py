"""Count votes: which ballot wins, and by how much. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Characters of a ballot that `details` show in full; free text makes long ballots.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote: the index of the part, the ballot ("" abstains), the output of the model, and the weight."""

    index: int
    ballot: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """The outcome of a vote.

    `winner` is the first vote, in index order, with the winning ballot; None if no vote counts. `votes` is the weight
    of its ballot, `total` that of all counted votes. `ballots` maps each ballot to its weight, `cast` to the parts that
    cast it, both in order of appearance; `abstained` are the parts without a ballot. `tie` holds every ballot with the
    most votes, the winner's first; it is empty if the winner leads alone.
    """

    winner: Vote | None
    votes: float
    total: float
    ballots: Mapping[str, float]
    cast: Mapping[str, tuple[int, ...]]
    abstained: tuple[int, ...]
    tie: tuple[str, ...]


def count(votes: Sequence[Vote]) -> Count:
    """Count `votes`, given in index order; a vote without ballot or weight abstains.

    Among several ballots with the most votes, the one that reached this number first in index order wins. So the same
    answers have the same winner, in whatever order they finish.
    """
    ballots: dict[str, float] = {}
    cast: dict[str, list[int]] = {}
    firsts: dict[str, Vote] = {}
    abstained: list[int] = []
    leading: list[str] = []
    most = 0.0
    for vote in votes:
        if not vote.ballot or vote.weight <= 0:
            abstained.append(vote.index)
            continue
        firsts.setdefault(vote.ballot, vote)
        cast.setdefault(vote.ballot, []).append(vote.index)
        ballots[vote.ballot] = weight = ballots.get(vote.ballot, 0.0) + vote.weight
        if weight > most:
            most, leading = weight, [vote.ballot]
        elif weight == most:
            leading.append(vote.ballot)
    return Count(
        firsts[leading[0]] if leading else None,
        most,
        sum(ballots.values()),
        ballots,
        {ballot: tuple(parts) for ballot, parts in cast.items()},
        tuple(abstained),
        tuple(leading) if len(leading) > 1 else (),
    )


def shorten_ballot(ballot: str) -> str:
    """Return a ballot for `details`: of a long one its beginning and the beginning of its SHA-256."""
    if len(ballot) <= SHOWN:
        return ballot
    digest = hashlib.sha256(ballot.encode("utf-8", "replace")).hexdigest()
    return f"{ballot[: SHOWN - 18]}… {digest[:16]}"
