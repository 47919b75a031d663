"""A vote over answers that are known beforehand: how much of it a rule asks for, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.parallel.early_stop import StopRule, is_decided, next_wave
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.posterior import posterior

__all__ = ["AskedVotes", "asked", "published", "winner_of"]


@dataclass(frozen=True, slots=True)
class AskedVotes:
    """What one vote took, and its winner."""

    calls: int
    waves: int
    winner: str


def asked(stopping: StopRule | None, ballots: Sequence[str]) -> AskedVotes:
    """Ask for `ballots` as the engine does to save calls, wave by wave and in order; without a rule for all at once."""
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
    """The winning ballot, "" where there is none."""
    winner = count([Vote(index, ballot, "") for index, ballot in enumerate(ballots)]).winner
    return winner.ballot if winner is not None else ""


def published(n: int, confidence: float) -> tuple[int, ...]:
    """The table of Adaptive-Consistency, as its authors give it: P(θ > ½) for voters without end. The peer of ours."""
    return tuple(
        next((a for a in range(b + 1, n - b + 1) if posterior(a, b) >= confidence), n + 1) for b in range(n + 1)
    )
