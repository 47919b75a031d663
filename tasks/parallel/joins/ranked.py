"""`ranked`: one ranking of many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import is_readable
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Work
from tasks.parallel.votes.answer_form import Form, ranking_form
from tasks.parallel.votes.ballot import Extraction, check_distinct, extract_text
from tasks.parallel.votes.normalize import normalize
from tasks.parallel.votes.ranking import METHODS, agreeing
from tasks.parallel.votes.ranking_text import MOST_CANDIDATES, read_ranking


class RankedOptions(Extraction):
    """The `join_options` of `ranked`: how rankings become one, the candidates, and the form of the output."""

    method: Literal["borda", "copeland", "instant_runoff"] = "borda"
    #: The candidates; others are ignored. By default all that an output ranks.
    among: tuple[str, ...] = Field(default=(), max_length=MOST_CANDIDATES)
    #: A numbered list, a JSON array, or the winner alone.
    show: Literal["list", "json", "winner"] = "list"

    _differ = field_validator("among")(check_distinct)


def _form(options: BaseModel | None) -> Form:
    """Return the form of an output: a list of the candidates, where the job names them."""
    if not isinstance(options, RankedOptions) or options.path or options.extract:
        return None
    return ranking_form(options.among)


@joiner(kinds=("vote",), options=RankedOptions, form=_form)
def ranked(work: Work) -> Joined:
    """Make one ranking of those in the outputs; needs every part.

    Candidates with equal points stand in the order in which they were first named; `ties` lists them. `points` are
    those of the method; for `instant_runoff` the round in which a candidate was struck out, the highest for the winner.
    `confidence` is the share of all pairs on the ballots that stand in the order of the output, `dissent` are the parts
    with another first place than the winner. Of more than 100 candidates, those on most ballots count; `dropped` is the
    number of the others.
    """
    options = work.options_as(RankedOptions)
    names = {normalize(name): name for name in options.among}
    ballots: dict[int, Sequence[str]] = {}
    unread: list[int] = []
    for piece in work.pieces:
        text = extract_text(piece.output, options) if is_readable(piece, options) else None
        found = read_ranking(text, options.among) if text is not None else {}
        if found:
            for candidate, name in found.items():
                names.setdefault(candidate, name)
            ballots[piece.index] = tuple(found)
        else:
            unread.append(piece.index)
    if not ballots:
        raise JoinError(
            f"no ranking to count: {len(work.missing)} of {work.total} parts are missing, {len(unread)} rank nothing"
        )
    candidates, dropped = _list_candidates(list(ballots.values()), names)
    if dropped:
        kept = set(candidates)
        ballots = {index: [one for one in ballot if one in kept] for index, ballot in ballots.items()}
        ballots = {index: ballot for index, ballot in ballots.items() if ballot}
    points = METHODS[options.method](list(ballots.values()), candidates)
    order = sorted(candidates, key=lambda candidate: -points[candidate])
    groups = [list(group) for _, group in groupby(order, key=lambda candidate: points[candidate])]
    ranking = [names[candidate] for candidate in order]
    details = {
        "method": options.method,
        "ranking": ranking,
        "points": {names[candidate]: points[candidate] for candidate in order},
        "firsts": {names[candidate]: sum(ballot[0] == candidate for ballot in ballots.values()) for candidate in order},
        "ties": [[names[candidate] for candidate in group] for group in groups if len(group) > 1],
        "confidence": agreeing(list(ballots.values()), order),
        "dissent": [
            {"index": index, "first": names[ballot[0]]} for index, ballot in ballots.items() if ballot[0] != order[0]
        ],
        "tie": [names[candidate] for candidate in groups[0]] if len(groups[0]) > 1 else [],
        "total": len(ballots),
        "dropped": dropped,
        "unread": unread,
        **work.gaps(),
    }
    return Joined(_format_ranking(ranking, options.show), details, truncated=False)


def _list_candidates(ballots: Sequence[Sequence[str]], names: Mapping[str, str]) -> tuple[list[str], int]:
    """Return the candidates in the order in which they are first named, and the number of dropped ones.

    Of more than `MOST_CANDIDATES`, those on most ballots stay.
    """
    named = Counter(candidate for ballot in ballots for candidate in ballot)
    named.update(dict.fromkeys(names, 0))
    kept = {candidate for candidate, _ in named.most_common(MOST_CANDIDATES)}
    return [candidate for candidate in named if candidate in kept], len(named) - len(kept)


def _format_ranking(ranking: Sequence[str], show: str) -> str:
    if show == "winner":
        return ranking[0]
    if show == "json":
        return json.dumps(ranking, ensure_ascii=False)
    return "\n".join(f"{place}. {name}" for place, name in enumerate(ranking, start=1))
