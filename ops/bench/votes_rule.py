"""A vote over known answers: the calls of a rule, and the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.parallel.early_stop import StopRule, is_decided, next_wave
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.posterior import posterior

__all__ = ["AskedVotes", "run_vote", "published", "winner_of"]


@dataclass(frozen=True, slots=True)
class AskedVotes:
    """The calls and waves of one vote, and its winner."""

    calls: int
    waves: int
    winner: str


def run_vote(stopping: StopRule | None, ballots: Sequence[str]) -> AskedVotes:
    """Ask for `ballots` as the engine does to save calls: in waves and in order; without a rule, all at once."""
    if stopping is None:
        return AskedVotes(len(ballots), 1, winner_of(ballots))
    tally: dict[str, float] = {}
    calls = waves = 0
    while not is_decided(stopping, tally, len(ballots) - calls, in_order=True):
        wave = next_wave(stopping, tally, len(ballots) - calls)
        for ballot in ballots[calls : calls + wave]:
            tally[ballot] = tally.get(ballot, 0) + 1
        calls, waves = calls + wave, waves + 1
    return AskedVotes(calls, waves, winner_of(ballots[:calls]))


def winner_of(ballots: Sequence[str]) -> str:
    """Return the winning ballot, "" if there is none."""
    winner = count([Vote(index, ballot, "") for index, ballot in enumerate(ballots)]).winner
    return winner.ballot if winner is not None else ""


def published(n: int, confidence: float) -> tuple[int, ...]:
    """Return the table of Adaptive-Consistency as published, P(θ > ½) for infinite voters: the peer of our table."""
    return tuple(
        next((a for a in range(b + 1, n - b + 1) if posterior(a, b) >= confidence), n + 1) for b in range(n + 1)
    )
