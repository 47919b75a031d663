"""The outputs of the parts: the distinct ones among votes, and outputs as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contract.answer import parse_answer
from tasks.contract.errors import JoinError
from tasks.parallel.joins.work import Piece, Work

__all__ = ["DistinctOutput", "Parsed", "as_text", "distinct_outputs", "parse_all", "parsed"]


@dataclass(frozen=True, slots=True)
class DistinctOutput:
    """An answer, and the indices of all parts that gave it in the same words, in order."""

    text: str
    indices: tuple[int, ...]

    @property
    def index(self) -> int:
        """The first part that gave it."""
        return self.indices[0]


def distinct_outputs(work: Work) -> Sequence[DistinctOutput]:
    """The distinct answers, by their first part. Blank ones abstain.

    Only blanks around them may differ: within code, blanks and capitals matter.

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
        raise JoinError(f"no take to choose from: {len(work.missing)} of {parts} parts are missing{blank}")
    return [DistinctOutput(text, tuple(indices)) for text, indices in found.items()]


#: Levels of an output's JSON: more is no data that anybody made on purpose.
MOST_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Parsed:
    """A part's output as data."""

    piece: Piece
    data: Any


def parse_all(pieces: Sequence[Piece], *, skip: bool) -> tuple[list[Parsed], list[Piece]]:
    """The outputs as data, and the pieces whose output is no JSON.

    Raises:
        JoinError: if there are any of these and they may not be skipped, or if nothing is left.
    """
    found: list[Parsed] = []
    unreadable: list[Piece] = []
    for piece in pieces:
        try:
            found.append(Parsed(piece, parsed(piece.output)))
        except ValueError:
            unreadable.append(piece)
    if unreadable and not (skip and found):
        named = ", ".join(str(piece.index + 1) for piece in unreadable[:10])
        more = f" and {len(unreadable) - 10:,} more" if len(unreadable) > 10 else ""
        remedy = "" if skip else '; give the job a response_schema, or set the join\'s option unreadable to "skip"'
        raise JoinError(
            f"{len(unreadable):,} of {len(pieces):,} outputs are no JSON: those of parts {named}{more}{remedy}"
        )
    return found, unreadable


def parsed(output: str) -> Any:
    """The JSON of an output: all of it, or the first fenced block that is JSON.

    Raises:
        ValueError: if there is none, or it is deeper than `MOST_DEPTH`, or holds a number that JSON can't write.
    """
    text = output.strip()
    for candidate in _candidates(text):
        if candidate.startswith("```"):
            continue
        try:
            data = parse_answer(candidate)
        except ValueError:
            continue
        _check(data)
        return data
    raise ValueError("is no JSON")


def as_text(data: Any, *, indent: int | None = None) -> str:
    """JSON for people and models: letters as they are, but for halves of characters, which can't be stored."""
    return json.dumps(data, ensure_ascii=False, indent=indent).encode("utf-8", "replace").decode()


def _candidates(text: str) -> Iterator[str]:
    # By lines, not by a pattern: its backtracking over runs of blanks would take minutes.
    if not text.startswith("```"):
        yield text
    if "```" not in text:
        return
    block: list[str] | None = None
    for line in map(str.strip, text.split("\n")):
        if block is None:
            block = [] if line.startswith("```") else None
        elif line.endswith("```"):
            yield "\n".join([*block, line[:-3]]).strip()
            block = None
        else:
            block.append(line)
    if block:
        yield "\n".join(block).strip()


def _check(data: Any) -> None:
    """Level by level: a recursion could be made to overflow."""
    level = [data]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("holds a number without a value")
        if not inner:
            return
        level = inner
    raise ValueError(f"has more than {MOST_DEPTH} levels")
