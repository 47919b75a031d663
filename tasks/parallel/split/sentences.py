"""A section for each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.parallel.split.cuts import at_places
from tasks.parallel.split.declare import splitter
from tasks.parallel.split.section import Section

__all__ = ["sentence_ends", "sentences"]

#: What may end a sentence: its signs with closing quotes and brackets, a blank line, or the line before an item of a
#: list or a heading. Each alternative begins with a sign of its own and repeats nothing that another begins with, so
#: that matching takes linear time.
_END = re.compile(
    r"""(?P<signs>[.!?…。！？｡]+)["'”’»)\]」』）]*
      | (?:\r\n|\r|\n)[ \t\f]*(?:\r\n|\r|\n)\s*
      | (?:\r\n|\r|\n)(?=[ \t]{0,12}(?:[-*+•]|\#{1,6}|\d{1,3}[.)])[ \t])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
#: Signs that end a sentence without a space behind them.
_WIDE = frozenset("。！？｡")
#: Characters before a full stop in which an abbreviation is looked for.
BEFORE = 12
#: Words whose full stop seldom ends a sentence.
_SHORT = frozenset({
    "abb", "abs", "art", "bzw", "ca", "cf", "ch", "co", "col", "corp", "dr", "ed", "eds", "eq", "etc", "fig", "ff",
    "gen", "hon", "inc", "jr", "lt", "ltd", "mr", "mrs", "ms", "mt", "nr", "pp", "prof", "rep", "rev", "sec",
    "sect", "sen", "sgt", "sr", "st", "str", "tel", "usw", "vgl", "viz", "vol", "vs", "zzgl",
})  # fmt: skip
#: … of which this one does so before a number alone: "No. 5", but "No. He left."
_NUMBER = "no"


@splitter()
def sentences(text: str) -> list[Section]:
    """End a section after each sentence, with the white space behind it.

    A sentence ends with ``.``, ``!``, ``?`` or an ellipsis (and closing quotes) before white space and no small letter,
    with their Chinese and Japanese signs wherever they stand, at a blank line, and before an item of a list. Common
    abbreviations, initials and numbers of list items end none.
    """
    return at_places(text, sentence_ends(text), lambda index: f"sentence {index + 1}")


def sentence_ends(text: str) -> Iterator[int]:
    """Where the sentences of a text end; the last one where the text does."""
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
            if not wide and (begins.islower() or (signs == "." and not _full_stop(text, match.start(), begins))):
                continue
        if last < end < len(text) and text[last:end].strip():
            yield end
            last = end
    if text:
        yield len(text)


def _full_stop(text: str, place: int, begins: str) -> bool:
    """Whether the full stop at `place` ends a sentence; `begins` is the first sign of what follows."""
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
