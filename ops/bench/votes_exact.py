"""The computed minimum of calls of a lossless vote, and the calls of our rule, over every possible vote.

For small votes only, since it enumerates all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from tasks.parallel.early_stop import StopRule, is_decided, next_wave
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.posterior import posterior


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


#: The wrong answers of a voter with their chances: a different one for each voter, the same for all, or one of two.
WRONG: Mapping[str, Callable[[int], Sequence[tuple[str, float]]]] = {
    "scattered": lambda index: ((f"wrong {index}", 1.0),),
    "on one": lambda _index: (("wrong", 1.0),),
    "on two": lambda _index: (("wrong", 0.5), ("wrong too", 0.5)),
}
RIGHT = "right"

#: The known ballots of a vote: one for each part, "" for a part that was not asked.
State = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """A vote under the exact rule: mean calls and waves, and the number of votes with another winner than the whole."""

    calls: float
    waves: float
    differing: int


def expected(n: int, right: float, wrong: str) -> Expected:
    """Return the mean of our rule in waves over all possible answers of `n` voters, right with chance `right`."""
    calls = waves = 0.0
    differing = 0
    for chance, ballots in _votes(n, right, wrong):
        took = run_vote(StopRule(exact=True), ballots)
        calls += chance * took.calls
        waves += chance * took.waves
        differing += took.winner != winner_of(ballots)
    return Expected(calls, waves, differing)


def least_calls(n: int, right: float, wrong: str) -> float:
    """Return the least mean number of calls of any policy that always has the winner of the whole vote.

    Dynamic programming over all possible states, whichever part is asked next. A policy may stop if no answer of the
    other voters, new answers included, changes the winner. The policy does not know how voters err.
    """

    @cache
    def least(state: State) -> float:
        if _settled(state):
            return 0.0
        return 1 + min(
            sum(chance * least(_with(state, index, outcome)) for outcome, chance in _answers(index, right, wrong))
            for index, ballot in enumerate(state)
            if not ballot
        )

    return least(("",) * n)


@cache
def _settled(state: State) -> bool:
    """Whether all continuations have the same winner."""
    gaps = [index for index, ballot in enumerate(state) if not ballot]
    # Equal new answers change more than different ones: two new answers stand for all.
    known = [*dict.fromkeys(ballot for ballot in state if ballot), "new", "newer"]
    winners = set()
    for filling in product(known, repeat=len(gaps)):
        whole = list(state)
        for index, ballot in zip(gaps, filling, strict=True):
            whole[index] = ballot
        winners.add(winner_of(whole))
        if len(winners) > 1:
            return False
    return True


def _with(state: State, index: int, ballot: str) -> State:
    return (*state[:index], ballot, *state[index + 1 :])


def _votes(n: int, right: float, wrong: str) -> Iterator[tuple[float, Sequence[str]]]:
    """Yield every vote of `n` with its chance."""
    for vote in product(*(_answers(index, right, wrong) for index in range(n))):
        yield math.prod(chance for _, chance in vote), [outcome for outcome, _ in vote]


def _answers(index: int, right: float, wrong: str) -> list[tuple[str, float]]:
    """Return the possible answers of a voter with their chances."""
    return [(RIGHT, right), *((outcome, (1 - right) * share) for outcome, share in WRONG[wrong](index))]
