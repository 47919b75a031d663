"""The outputs of the parts: the distinct ones among votes, and outputs as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.errors import JoinError
from tasks.parallel.joins.work import Piece, Work

__all__ = ["DistinctOutput", "ParsedOutput", "as_text", "distinct_outputs", "parse_outputs"]

#: Unreadable outputs that an error names one by one.
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class DistinctOutput:
    """An output, and the indices of all parts that gave it in the same words, in order."""

    text: str
    indices: tuple[int, ...]

    @property
    def index(self) -> int:
        """The first part that gave this output."""
        return self.indices[0]


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """The output of a part as data."""

    piece: Piece
    data: Any


def distinct_outputs(work: Work) -> Sequence[DistinctOutput]:
    """Return the distinct outputs in the order of their first parts. Blank outputs abstain.

    Two outputs are the same if they differ in outer blanks alone: within code, blanks and capitals matter.

    Raises:
        JoinError: if there is none.
    """
    found: dict[str, list[int]] = {}
    for piece in work.pieces:
        if text := piece.output.strip():
            found.setdefault(text, []).append(piece.index)
    if not found:
        blank = f" ({len(work.pieces)} blank)" if work.pieces else ""
        parts = len(work.pieces) + len(work.missing)
        raise JoinError(f"no output to choose from: {len(work.missing)} of {parts} parts are missing{blank}")
    return [DistinctOutput(text, tuple(indices)) for text, indices in found.items()]


def parse_outputs(pieces: Sequence[Piece], *, skip: bool) -> tuple[list[ParsedOutput], list[Piece]]:
    """Return the outputs as data, and the pieces whose output is no JSON, also not in a fenced block.

    Raises:
        JoinError: if an output is no JSON and `skip` is false, or if no output is JSON.
    """
    found: list[ParsedOutput] = []
    unreadable: list[Piece] = []
    for piece in pieces:
        try:
            found.append(ParsedOutput(piece, parse_answer(piece.output, embedded=True)))
        except NotJSON:
            unreadable.append(piece)
    if unreadable and not (skip and found):
        named = ", ".join(str(piece.index + 1) for piece in unreadable[:MOST_NAMED])
        more = f" and {len(unreadable) - MOST_NAMED:,} more" if len(unreadable) > MOST_NAMED else ""
        remedy = "" if skip else '; give the job a response_schema, or set the join\'s option unreadable to "skip"'
        raise JoinError(
            f"{len(unreadable):,} of {len(pieces):,} outputs are no JSON: those of parts {named}{more}{remedy}"
        )
    return found, unreadable


def as_text(data: Any) -> str:
    """Write JSON with letters as they are; halves of surrogate pairs are replaced, since no store takes them."""
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()
