"""A section for each page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.parallel.split.cuts import at_places
from tasks.parallel.split.declare import splitter
from tasks.parallel.split.registry import nothing_found
from tasks.parallel.split.section import Section

__all__ = ["pages"]


@splitter()
def pages(text: str) -> list[Section]:
    """End a section after each form feed: the sign between pages, which our reader of PDFs ends each page with.

    A page without text is a section too, so that the numbers in the titles are those of the document.
    """
    if "\f" not in text:
        raise nothing_found("pages", "the document has no form feed, the sign between pages")
    return at_places(text, _page_ends(text), lambda index: f"page {index + 1}")


def _page_ends(text: str) -> Iterator[int]:
    ends = [match.end() for match in re.finditer("\f", text)]
    if text[ends[-1] :].strip():
        yield from ends
    else:
        yield from ends[:-1]
    yield len(text)
