"""One ranking of many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from pydantic import Field, field_validator

from tasks.errors import JoinError
from tasks.joins.declare import joiner
from tasks.joins.values import Joined, Work, listed
from tasks.votes.normalize import normalize
from tasks.votes.ranking import METHODS, ranking_of
from tasks.votes.reading import Finding, written

__all__ = ["RankedOptions", "ranked"]


class RankedOptions(Finding):
    """How rankings become one, which candidates there are, and what the answer shows."""

    method: Literal["borda", "copeland", "instant_runoff"] = "borda"
    #: The candidates; whatever else is ranked is left out. By default all that anybody ranks.
    among: tuple[str, ...] = Field(default=(), max_length=1000)
    #: A numbered list, a JSON array, or the winner alone.
    show: Literal["list", "json", "winner"] = "list"

    @field_validator("among")
    @classmethod
    def _differ(cls, among: tuple[str, ...]) -> tuple[str, ...]:
        names = [normalize(name) for name in among]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("must be different, and none blank, once case and punctuation are left out")
        return among


@joiner(kinds=("vote",), options=RankedOptions)
def ranked(work: Work) -> Joined:
    """Make one ranking of those that the takes give; needs every part.

    Those with equal points stand in the order in which they were first named, and `ties` tells them. `points` are those
    of the method; of `instant_runoff` the round in which a candidate was left out, the highest for the winner.

    Raises:
        JoinError: where no take ranks anything.
    """
    options = work.options if isinstance(work.options, RankedOptions) else RankedOptions()
    names = {normalize(name): name for name in options.among}
    ballots: list[Sequence[str]] = []
    unread: list[int] = []
    for piece in work.pieces:
        text = written(piece.output, options)
        found = ranking_of(text) if text is not None else {}
        if options.among:
            found = {candidate: name for candidate, name in found.items() if candidate in names}
        if found:
            names = {**found, **names}
            ballots.append(tuple(found))
        else:
            unread.append(piece.index)
    if not ballots:
        raise JoinError(
            f"no ranking to count: {len(work.missing)} of {work.total} parts are missing, {len(unread)} rank nothing"
        )
    # In the order in which they are named, part by part.
    candidates = list(dict.fromkeys(candidate for ballot in ballots for candidate in ballot))
    candidates += [candidate for candidate in names if candidate not in candidates]
    points = METHODS[options.method](ballots, candidates)
    order = sorted(candidates, key=lambda candidate: -points[candidate])
    groups = [list(group) for _, group in groupby(order, key=lambda candidate: points[candidate])]
    ranking = [names[candidate] for candidate in order]
    details = {
        "method": options.method,
        "ranking": ranking,
        "points": {names[candidate]: points[candidate] for candidate in order},
        "firsts": {names[candidate]: sum(ballot[0] == candidate for ballot in ballots) for candidate in order},
        "ties": [[names[candidate] for candidate in group] for group in groups if len(group) > 1],
        "total": len(ballots),
        "unread": unread,
        "missing": listed(work.missing),
    }
    return Joined(_shown(ranking, options.show), details)


def _shown(ranking: Sequence[str], show: str) -> str:
    if show == "winner":
        return ranking[0]
    if show == "json":
        return json.dumps(ranking, ensure_ascii=False)
    return "\n".join(f"{place}. {name}" for place, name in enumerate(ranking, start=1))
