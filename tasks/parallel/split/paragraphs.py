"""A section for each paragraph, or for a few small ones."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from tasks.parallel.split.cuts import FENCE, LINE, closing_fence, spanned
from tasks.parallel.split.declare import SplitOptions, splitter
from tasks.parallel.split.section import Section

__all__ = ["Paragraphs", "paragraph_ends", "paragraphs"]


class Paragraphs(SplitOptions):
    #: Characters that a section has at least: smaller paragraphs go together with those after them, at the end of
    #: the document with those before.
    least_characters: int = Field(default=0, ge=0, le=1_000_000)


@splitter(options=Paragraphs)
def paragraphs(text: str, options: Paragraphs) -> list[Section]:
    """Begin a section at each line that follows a blank one; fenced code is not cut."""
    least = options.least_characters
    spans: list[tuple[int, int, int, int]] = []  # where it starts and ends, its first and its last paragraph
    start = number = 0
    first = 1
    for number, end in enumerate(paragraph_ends(text), 1):
        # What is blank around a paragraph is none of its characters.
        if len(text[start:end].strip()) >= least:
            spans.append((start, end, first, number))
            start, first = end, number + 1
    if start < len(text):
        begun, _, numbered_from, _ = spans.pop() if spans else (start, 0, first, 0)
        spans.append((begun, len(text), numbered_from, number))
    return [
        Section(index, spanned("paragraph", first, last), text[start:end])
        for index, (start, end, first, last) in enumerate(spans)
    ]


def paragraph_ends(text: str) -> Iterator[int]:
    """Where the paragraphs of a text end, each with the blank lines after it; those before the first belong to it."""
    closing = None
    begun = over = False
    for match in LINE.finditer(text):
        line = match.group().rstrip("\r\n")
        if closing is not None:
            closing = None if closing.search(line) else closing
        elif not line.strip():
            over = begun
        else:
            if over:
                yield match.start()
            begun, over = True, False
            if fence := FENCE.match(line):
                closing = closing_fence(fence)
    if text:
        yield len(text)
