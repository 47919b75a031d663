"""The different answers among the votes of one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contract.errors import JoinError
from tasks.parallel.joins.values import Work

__all__ = ["Take", "takes_of"]


@dataclass(frozen=True, slots=True)
class Take:
    """An answer, and the indices of all parts that gave it in the same words, in order."""

    text: str
    indices: tuple[int, ...]

    @property
    def index(self) -> int:
        """The first part that gave it."""
        return self.indices[0]


def takes_of(work: Work) -> Sequence[Take]:
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
    return [Take(text, tuple(indices)) for text, indices in found.items()]
