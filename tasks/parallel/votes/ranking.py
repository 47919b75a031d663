"""Rankings: from what a model wrote to an order of candidates, and from many orders to one.

Sources: de Borda 1781; Copeland 1951 (wins less losses of all pairs); instant runoff as Robert's Rules describe
preferential voting, the last one left out until all are placed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.contract.answer import parse_answer
from tasks.parallel.votes.normalize import normalize

__all__ = ["METHODS", "MOST_CANDIDATES", "agreeing", "borda", "copeland", "instant_runoff", "ranking_of"]

#: Candidates of one ballot: what a model lists beyond them is not read. The time of a thousand
#: ballots is that of reading them.
MOST_CANDIDATES = 100
_NUMBERED = re.compile(r"\s{0,20}[*_#]{0,4}\(?\d{1,4}[.):][*_]{0,3}\s+(\S.*)")
_BULLET = re.compile(r"\s{0,20}[-*•+]\s+(\S.*)")

#: One ballot: candidates, the best first, none twice. A candidate that it leaves out comes after all of these.
Ballot = Sequence[str]


def ranking_of(text: str) -> dict[str, str]:
    """The candidates that a text ranks, the best first, each with what was written; {} where it ranks none.

    A JSON array of names, or of objects with a name, in a fence or not; else a numbered list; else a list of bullets;
    else one name a line, or names with ``>`` or commas between them on one line. Names that `normalize` makes equal are
    one; the first place counts.
    """
    names = _from_json(text)
    if names is None:
        lines = text.splitlines()
        names = _listed(_NUMBERED, lines) or _listed(_BULLET, lines) or _lines(lines)
    found: dict[str, str] = {}
    for name in names[:MOST_CANDIDATES]:
        candidate = normalize(name)
        if candidate:
            found.setdefault(candidate, name.strip())
    return found


def _from_json(text: str) -> list[str] | None:
    try:
        value = parse_answer(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        # {"ranking": […]}: answers that keep a schema are objects.
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list):
        return None
    return [name for name in map(_name, value) if name]


def _name(item: Any) -> str:
    if isinstance(item, Mapping):
        texts = [value for value in item.values() if isinstance(value, str)]
        named = item.get("name", texts[0] if texts else "")
        return named if isinstance(named, str) else ""
    return item if isinstance(item, str) else str(item) if isinstance(item, int | float) else ""


def _listed(mark: re.Pattern[str], lines: Sequence[str]) -> list[str]:
    return [match[1] for match in map(mark.match, lines) if match]


def _lines(lines: Sequence[str]) -> list[str]:
    names = [line for line in lines if line.strip()]
    if len(names) == 1:
        return names[0].split(">" if ">" in names[0] else ",")
    return names


def borda(ballots: Sequence[Ballot], candidates: Sequence[str]) -> dict[str, float]:
    """Points: m − 1 for a first place among m candidates, one less each place down.

    Those that a ballot leaves out share what is left of its points: a short ballot weighs as much as a long one.
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
    """Pairs won less pairs lost; of a pair wins who is before the other on more ballots."""
    places = _places(ballots, candidates)
    points = {}
    for column, candidate in enumerate(candidates):
        own = places[:, column : column + 1]
        leads = (own < places).sum(axis=0) - (own > places).sum(axis=0)
        points[candidate] = float(np.sign(leads).sum())
    return points


def instant_runoff(ballots: Sequence[Ballot], candidates: Sequence[str]) -> dict[str, float]:
    """The round in which each is left out, from 0, the winner's the highest.

    In each round that one goes who is first on the fewest ballots, once those that went before are struck out; of
    several the one whose points by `borda` are lowest, then the one that was named last.
    """
    points = borda(ballots, candidates)
    standing = dict.fromkeys(candidates, 0)
    # How far each ballot is struck out from its top.
    tops = [0] * len(ballots)
    left: dict[str, float] = {}
    while standing:
        firsts = dict.fromkeys(standing, 0)
        for at, ballot in enumerate(ballots):
            while tops[at] < len(ballot) and ballot[tops[at]] not in standing:
                tops[at] += 1
            if tops[at] < len(ballot):
                firsts[ballot[tops[at]]] += 1
        # Reversed: of equals the one named last is the first that `min` sees.
        out = min(reversed(standing), key=lambda candidate: (firsts[candidate], points[candidate]))
        del standing[out]
        left[out] = float(len(left))
    return {candidate: left[candidate] for candidate in candidates}


def agreeing(ballots: Sequence[Ballot], order: Ballot) -> float:
    """The share of all pairs on the ballots that stand in the same order in `order`; 1 where there is no pair.

    Kendall's tau over all ballots, from 0 to 1. What a ballot leaves out makes no pair.
    """
    place = {candidate: at for at, candidate in enumerate(order)}
    pairs = same = 0
    for ballot in ballots:
        places = np.array([place[candidate] for candidate in ballot])
        same += int(np.triu(places[:, None] < places[None, :], 1).sum())
        pairs += len(places) * (len(places) - 1) // 2
    return same / pairs if pairs else 1.0


def _places(ballots: Sequence[Ballot], candidates: Sequence[str]) -> npt.NDArray[np.int32]:
    """A row for each ballot, a column for each candidate: its place from 0, behind all others where it is left out."""
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
