"""A stretch of a document."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TITLE_CHARACTERS", "Section", "shorten"]

#: Characters of a title: it names a section in an answer and in a trace; a clause may be one line of 10,000.
TITLE_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a document. `index` counts from 0; `title` is the line people know it by, "" when it has none."""

    index: int
    title: str
    text: str
    #: Characters at the start of `text` that an earlier section holds too: an overlap, or a table's header.
    repeated: int = 0


def shorten(title: str) -> str:
    """A title on one line, of at most `TITLE_CHARACTERS`."""
    # Of a line of a megabyte nobody reads more.
    title = " ".join(title[: 20 * TITLE_CHARACTERS].split())
    return title if len(title) <= TITLE_CHARACTERS else title[: TITLE_CHARACTERS - 1].rstrip() + "…"
