"""Which parts a text cites: ``[3]``, ``[1][4]``, ``[2, 5]``, ``[1-3]``. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Citations", "citations", "numbers_in"]

_CITATION = re.compile(r"[\[【]\s?([0-9]{1,6}(?:\s?[,;–-]\s?[0-9]{1,6}){0,99})\s?[\]】]")
_STEP = re.compile(r"([0-9]+)(?:\s?[–-]\s?([0-9]+))?")
#: Parts that one range may name; a longer one is two years, or no citation.
LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class Citations:
    """What a text cites of the parts that it was given. `cited` and `uncited` are indices, from 0."""

    cited: tuple[int, ...]
    uncited: tuple[int, ...]
    #: Numbers as they stand in the text that belong to no part it was given.
    unknown: tuple[int, ...]


def citations(text: str, indices: Collection[int]) -> Citations:
    """Compare the numbers that `text` cites, from 1, with the parts there are."""
    numbers = numbers_in(text)
    known = set(indices)
    cited = {number - 1 for number in numbers} & known
    return Citations(
        tuple(sorted(cited)),
        tuple(sorted(known - cited)),
        tuple(sorted(number for number in numbers if number - 1 not in known)),
    )


def numbers_in(text: str) -> set[int]:
    """The numbers in brackets, those within a range too."""
    found: set[int] = set()
    for citation in _CITATION.finditer(text):
        for step in _STEP.finditer(citation[1]):
            first, last = int(step[1]), int(step[2] or step[1])
            found |= set(range(first, last + 1)) if 0 <= last - first <= LONGEST else {first, last}
    return found
