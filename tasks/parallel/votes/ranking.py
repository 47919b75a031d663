"""Rankings: one order of many.

Sources: de Borda 1781; Copeland 1951 (wins less losses of all pairs); instant runoff as Robert's Rules describe
preferential voting, where the last candidate is struck out until all are placed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

#: One ballot: candidates, the best first, none twice. Other candidates come after all of these.
Ballot = Sequence[str]


def borda(ballots: Sequence[Ballot], candidates: Sequence[str]) -> dict[str, float]:
    """Return points: m − 1 for the first place among m candidates, one less for each further place.

    Candidates without a place on a ballot share its remaining points: a short ballot weighs as much as a long one.
    """
    points = dict.fromkeys(candidates, 0.0)
    last = len(candidates) - 1
    for ballot in ballots:
        # The mean of the places that are left: 0 to last - len(ballot).
        absent = (last - len(ballot)) / 2
        places = {candidate: float(last - place) for place, candidate in enumerate(ballot)}
        for candidate in candidates:
            points[candidate] += places.get(candidate, absent)
    return points


def copeland(ballots: Sequence[Ballot], candidates: Sequence[str]) -> dict[str, float]:
    """Return pairs won less pairs lost; the candidate that precedes the other on more ballots wins the pair."""
    places = _place_matrix(ballots, candidates)
    points = {}
    for column, candidate in enumerate(candidates):
        own = places[:, column : column + 1]
        leads = (own < places).sum(axis=0) - (own > places).sum(axis=0)
        points[candidate] = float(np.sign(leads).sum())
    return points


def instant_runoff(ballots: Sequence[Ballot], candidates: Sequence[str]) -> dict[str, float]:
    """Return the round in which each candidate is struck out, from 0; the winner has the highest.

    Each round strikes out the candidate that is first on the fewest ballots, among the remaining ones; of several, the
    one with the lowest points by `borda`, then the one that was named last.
    """
    points = borda(ballots, candidates)
    standing = dict.fromkeys(candidates, 0)
    # The first remaining place of each ballot.
    tops = [0] * len(ballots)
    left: dict[str, float] = {}
    while standing:
        firsts = dict.fromkeys(standing, 0)
        for at, ballot in enumerate(ballots):
            while tops[at] < len(ballot) and ballot[tops[at]] not in standing:
                tops[at] += 1
            if tops[at] < len(ballot):
                firsts[ballot[tops[at]]] += 1
        # Reversed, so that `min` returns the one that was named last among equals.
        out = min(reversed(standing), key=lambda candidate: (firsts[candidate], points[candidate]))
        del standing[out]
        left[out] = float(len(left))
    return {candidate: left[candidate] for candidate in candidates}


def agreeing(ballots: Sequence[Ballot], order: Ballot) -> float:
    """Return the share of all pairs on the ballots that stand in the same order in `order`; 1 if there is no pair.

    This is Kendall's tau over all ballots, from 0 to 1. Candidates that a ballot leaves out make no pair.
    """
    place = {candidate: at for at, candidate in enumerate(order)}
    pairs = same = 0
    for ballot in ballots:
        places = np.array([place[candidate] for candidate in ballot])
        same += int(np.triu(places[:, None] < places[None, :], 1).sum())
        pairs += len(places) * (len(places) - 1) // 2
    return same / pairs if pairs else 1.0


def _place_matrix(ballots: Sequence[Ballot], candidates: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return a row for each ballot with the place of each candidate from 0; missing candidates share the last place."""
    columns = {candidate: at for at, candidate in enumerate(candidates)}
    places = np.full((len(ballots), len(candidates)), len(candidates), dtype=np.int32)
    for row, ballot in enumerate(ballots):
        for place, candidate in enumerate(ballot):
            places[row, columns[candidate]] = place
    return places


#: From ballots and candidates to points: the more the better.
METHODS: Mapping[str, Callable[[Sequence[Ballot], Sequence[str]], dict[str, float]]] = {
    "borda": borda,
    "copeland": copeland,
    "instant_runoff": instant_runoff,
}
