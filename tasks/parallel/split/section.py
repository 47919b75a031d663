"""A section of a document, and how sections are cut without loss by lines or by places in the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Characters of a title: it names a section in outputs and traces; a clause may be one line of 10,000 characters.
TITLE_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a document. `index` counts from 0; `title` names it for people and may be ""."""

    index: int
    title: str
    text: str
    #: Characters at the start of `text` that an earlier section also holds: an overlap, or a table's header.
    repeated: int = 0


def shorten(title: str) -> str:
    """Shorten a title to one line of at most `TITLE_CHARACTERS`."""
    # The beginning is enough, also of a line of a megabyte.
    title = " ".join(title[: 20 * TITLE_CHARACTERS].split())
    return title if len(title) <= TITLE_CHARACTERS else title[: TITLE_CHARACTERS - 1].rstrip() + "…"


#: A line of a text with its end; unlike with `str.splitlines`, a form feed or U+2028 ends no line.
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
#: The opening of fenced code (CommonMark 4.5).
FENCE = re.compile(r" {0,3}(?P<mark>`{3,}(?=[^`]*$)|~{3,})")


def split_lines(text: str) -> list[str]:
    """Return the lines with their ends."""
    return LINE.findall(text)


def closing_fence(fence: re.Match[str]) -> re.Pattern[str]:
    """Return the pattern of the closing fence for an opening that `FENCE` matched."""
    mark = fence["mark"]
    return re.compile(rf"^ {{0,3}}{mark}{mark[0]}*[ \t]*$")


def cut_at_lines(lines: Sequence[str], cuts: Sequence[tuple[int, str]], *, opening: str) -> list[Section]:
    """Return sections that begin at the line numbers of `cuts`, each with its title.

    Text before the first cut is a section titled `opening`; blank lines there belong to the first section.
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


def cut_at_places(text: str, ends: Iterable[int], title: Callable[[int], str]) -> list[Section]:
    """Return sections that end at these places, the last at the end of `text`; `title` gives the title of an index."""
    spans = pairwise((0, *ends))
    return [Section(index, title(index), text[start:end]) for index, (start, end) in enumerate(spans) if end > start]


def span_title(noun: str, first: int, last: int) -> str:
    """Return the title of a section of one or several units: ``row 3``, ``rows 3–7``."""
    return f"{noun} {first}" if first == last else f"{noun}s {first}–{last}"
