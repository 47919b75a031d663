"""`lines`, `sentences`, `paragraphs` and `pages`: sections by the units of a plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import Field

from tasks.parallel.split.registry import SplitOptions, nothing_found, splitter
from tasks.parallel.split.section import FENCE, LINE, Section, closing_fence, cut_at_places, span_title


class LinesOptions(SplitOptions):
    #: Lines in each section; blank ones don't count.
    lines: int = Field(default=1, ge=1, le=100_000)


@splitter(options=LinesOptions)
def lines(text: str, options: LinesOptions) -> list[Section]:
    """Cut after every `lines` lines. Blank ones go with the line before; titles count all lines, as editors do."""
    sections: list[Section] = []
    start = first = last = held = 0
    for number, match in enumerate(LINE.finditer(text), 1):
        if not match.group().strip():
            continue
        if held == options.lines:
            sections.append(Section(len(sections), span_title("line", first, last), text[start : match.start()]))
            start, held = match.start(), 0
        first = number if held == 0 else first
        last, held = number, held + 1
    sections.append(Section(len(sections), span_title("line", first, last), text[start:]))
    return sections


#: Possible ends of a sentence: its signs with closing quotes and brackets, a blank line, or the line before a list item
#: or a heading. Each alternative begins with a different sign and repeats no first sign of another, so that matching
#: takes linear time.
_END = re.compile(
    r"""(?P<signs>[.!?…。！？｡]+)["'”’»)\]」』）]*
      | (?:\r\n|\r|\n)[ \t\f]*(?:\r\n|\r|\n)\s*
      | (?:\r\n|\r|\n)(?=[ \t]{0,12}(?:[-*+•]|\#{1,6}|\d{1,3}[.)])[ \t])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
#: Signs that end a sentence without a space after them.
_WIDE = frozenset("。！？｡")
#: Characters before a full stop that are searched for an abbreviation.
BEFORE = 12
#: Words whose full stop seldom ends a sentence.
_SHORT = frozenset({
    "abb", "abs", "art", "bzw", "ca", "cf", "ch", "co", "col", "corp", "dr", "ed", "eds", "eq", "etc", "fig", "ff",
    "gen", "hon", "inc", "jr", "lt", "ltd", "mr", "mrs", "ms", "mt", "nr", "pp", "prof", "rep", "rev", "sec",
    "sect", "sen", "sgt", "sr", "st", "str", "tel", "usw", "vgl", "viz", "vol", "vs", "zzgl",
})  # fmt: skip
#: … and one whose full stop does so unless a number follows: "No. 5", but "No. He left."
_NUMBER = "no"


@splitter()
def sentences(text: str) -> list[Section]:
    """End a section after each sentence and the white space that follows it.

    A sentence ends with ``.``, ``!``, ``?`` or an ellipsis (and closing quotes) before white space that no small letter
    follows, with the Chinese and Japanese signs anywhere, at a blank line, and before a list item. Common
    abbreviations, initials and the numbers of list items end no sentence.
    """
    return cut_at_places(text, sentence_ends(text), lambda index: f"sentence {index + 1}")


def sentence_ends(text: str) -> Iterator[int]:
    """Yield the ends of the sentences of a text; the last is the end of the text."""
    last = 0
    for match in _END.finditer(text):
        end = match.end()
        signs = match["signs"]
        if signs is not None:
            wide = not _WIDE.isdisjoint(signs)
            if not wide and not text[end : end + 1].isspace():
                continue
            space = _SPACE.match(text, end)
            end = space.end() if space else end
            begins = text[end : end + 1]
            if not wide and (begins.islower() or (signs == "." and not _ends_sentence(text, match.start(), begins))):
                continue
        if last < end < len(text) and text[last:end].strip():
            yield end
            last = end
    if text:
        yield len(text)


def _ends_sentence(text: str, place: int, begins: str) -> bool:
    """Whether the full stop at `place` ends a sentence; `begins` is the first character after it."""
    first = max(0, place - BEFORE)
    start = place
    while start > first and text[start - 1].isalnum():
        start -= 1
    word = text[start:place].lower()
    if not word:
        return True
    if len(word) == 1 and word.isalpha():
        return False  # "J." of a name, "e.g.", "U.S.", "z.B.", "a." of a list
    if word.isdecimal() and len(word) <= 3:
        before = text[first:start].rstrip(" \t")
        return not before.endswith(("\r", "\n")) if before else first > 0  # "1." at the beginning of a line
    return not begins.isdecimal() if word == _NUMBER else word not in _SHORT


class ParagraphsOptions(SplitOptions):
    #: Least characters of a section: smaller paragraphs are united with those after them, at the end of the document
    #: with those before.
    least_characters: int = Field(default=0, ge=0, le=1_000_000)


@splitter(options=ParagraphsOptions)
def paragraphs(text: str, options: ParagraphsOptions) -> list[Section]:
    """Begin a section at each line that follows a blank one; fenced code is not cut."""
    least = options.least_characters
    spans: list[tuple[int, int, int, int]] = []  # start, end, first and last paragraph
    start = number = 0
    first = 1
    for number, end in enumerate(paragraph_ends(text), 1):
        # Blanks around a paragraph do not count.
        if len(text[start:end].strip()) >= least:
            spans.append((start, end, first, number))
            start, first = end, number + 1
    if start < len(text):
        begun, _, numbered_from, _ = spans.pop() if spans else (start, 0, first, 0)
        spans.append((begun, len(text), numbered_from, number))
    return [
        Section(index, span_title("paragraph", first, last), text[start:end])
        for index, (start, end, first, last) in enumerate(spans)
    ]


def paragraph_ends(text: str) -> Iterator[int]:
    """Yield the ends of paragraphs with the blank lines after them; leading blank lines belong to the first."""
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


@splitter()
def pages(text: str) -> list[Section]:
    """End a section after each form feed: the character between pages, also at the end of each page of a PDF.

    A page without text is a section too, so that the numbers in the titles are those of the document.
    """
    if "\f" not in text:
        raise nothing_found("pages", "the document has no form feed, the sign between pages")
    ends = [match.end() for match in re.finditer("\f", text)]
    if not text[ends[-1] :].strip():
        ends.pop()  # nothing but blanks is no page: they belong to the last one
    return cut_at_places(text, (*ends, len(text)), lambda index: f"page {index + 1}")
