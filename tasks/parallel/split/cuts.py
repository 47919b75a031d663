"""Where a document is cut, by lines or by places in it, and the sections that come of it.

What is cut here is cut without loss: the texts of the sections, one after the other, are the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.parallel.split.section import Section

__all__ = ["FENCE", "at_lines", "at_places", "closing_fence", "lines_of", "spanned"]

#: A line of a text with its end; unlike `str.splitlines`, a form feed or U+2028 ends none.
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
#: What opens fenced code (CommonMark 4.5).
FENCE = re.compile(r" {0,3}(?P<mark>`{3,}(?=[^`]*$)|~{3,})")


def lines_of(text: str) -> list[str]:
    """The lines with their ends."""
    return LINE.findall(text)


def closing_fence(fence: re.Match[str]) -> re.Pattern[str]:
    """What ends the fenced code that `FENCE` has found the opening of."""
    mark = fence["mark"]
    return re.compile(rf"^ {{0,3}}{mark}{mark[0]}*[ \t]*$")


def at_lines(lines: Sequence[str], cuts: Sequence[tuple[int, str]], *, opening: str) -> list[Section]:
    """Sections that begin at the line numbers of `cuts`, each with its title.

    What stands before the first is a section titled `opening`; blank lines there belong to the first.
    """
    first = cuts[0][0]
    starts = list(cuts)
    if "".join(lines[:first]).strip():
        starts.insert(0, (0, opening))
    else:
        starts[0] = (0, cuts[0][1])
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    return [
        Section(index, title, "".join(lines[start:end]))
        for index, ((start, title), end) in enumerate(zip(starts, ends, strict=True))
    ]


def at_places(text: str, ends: Iterable[int], title: Callable[[int], str]) -> list[Section]:
    """Sections that end at these places, in order, the last of which is the end of `text`; `title` of each index."""
    return [
        Section(index, title(index), text[start:end]) for index, (start, end) in enumerate(_pairs(ends)) if end > start
    ]


def spanned(noun: str, first: int, last: int) -> str:
    """The title of a section that holds several of the same: ``row 3``, ``rows 3–7``."""
    return f"{noun} {first}" if first == last else f"{noun}s {first}–{last}"


def _pairs(ends: Iterable[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for end in ends:
        yield start, end
        start = end
