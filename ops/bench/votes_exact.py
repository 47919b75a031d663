"""The least that a lossless vote can ask for, computed; and what ours asks for, counted over every vote there is.

Small votes alone: everything here goes through all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from ops.bench.votes_rule import asked, winner_of
from tasks.parallel.early_stop import StopRule

__all__ = ["WRONG", "Expected", "expected", "least_calls"]

#: What a voter that errs says, with the chance of each: something that nobody else says, the one thing that all say who
#: err, or one of two. Which voter is asked makes no difference.
WRONG: Mapping[str, Callable[[int], Sequence[tuple[str, float]]]] = {
    "scattered": lambda index: ((f"wrong {index}", 1.0),),
    "on one": lambda _index: (("wrong", 1.0),),
    "on two": lambda _index: (("wrong", 0.5), ("wrong too", 0.5)),
}
RIGHT = "right"

#: What is known of a vote: the ballot of each part, "" of one that was not asked.
State = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """A vote under the exact rule: mean calls, mean waves, and the votes whose winner is not that of the whole."""

    calls: float
    waves: float
    differing: int


def expected(n: int, right: float, wrong: str) -> Expected:
    """Ours, in waves: the mean over every way in which `n` voters, right with chance `right`, can answer."""
    calls = waves = 0.0
    differing = 0
    for chance, ballots in _votes(n, right, wrong):
        took = asked(StopRule(exact=True), ballots)
        calls += chance * took.calls
        waves += chance * took.waves
        differing += took.winner != winner_of(ballots)
    return Expected(calls, waves, differing)


def least_calls(n: int, right: float, wrong: str) -> float:
    """The least mean number of calls of any policy that always has the winner of the whole vote.

    Dynamic programming over all that may be known, whichever part is asked next. A policy may stop where nothing that
    the others can say, answers that nobody gave yet included, changes the winner. It doesn't know which way voters err.
    """

    @cache
    def least(state: State) -> float:
        if _settled(state):
            return 0.0
        return 1 + min(
            sum(chance * least(_with(state, index, said)) for said, chance in _says(index, right, wrong))
            for index, ballot in enumerate(state)
            if not ballot
        )

    return least(("",) * n)


@cache
def _settled(state: State) -> bool:
    """Whether every continuation has the same winner."""
    gaps = [index for index, ballot in enumerate(state) if not ballot]
    # New answers that agree change more than such that don't: two of them stand for all.
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
    """Every vote of `n`, with its chance."""
    for vote in product(*(_says(index, right, wrong) for index in range(n))):
        yield math.prod(chance for _, chance in vote), [said for said, _ in vote]


def _says(index: int, right: float, wrong: str) -> list[tuple[str, float]]:
    """What the voter may say, with its chance."""
    return [(RIGHT, right), *((said, (1 - right) * share) for said, share in WRONG[wrong](index))]
