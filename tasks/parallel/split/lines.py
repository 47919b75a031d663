"""A section for each line, or for so many."""

from __future__ import annotations

from pydantic import Field

from tasks.parallel.split.cuts import LINE, spanned
from tasks.parallel.split.declare import SplitOptions, splitter
from tasks.parallel.split.section import Section

__all__ = ["Lines", "lines"]


class Lines(SplitOptions):
    #: Lines of a section; blank ones don't count.
    lines: int = Field(default=1, ge=1, le=100_000)


@splitter(options=Lines)
def lines(text: str, options: Lines) -> list[Section]:
    """Cut after every so many lines. Blank ones go with the line before; titles count all, as an editor does."""
    sections: list[Section] = []
    start = first = last = held = 0
    for number, match in enumerate(LINE.finditer(text), 1):
        if not match.group().strip():
            continue
        if held == options.lines:
            sections.append(Section(len(sections), spanned("line", first, last), text[start : match.start()]))
            start, held = match.start(), 0
        first = number if held == 0 else first
        last, held = number, held + 1
    sections.append(Section(len(sections), spanned("line", first, last), text[start:]))
    return sections
