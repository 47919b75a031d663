"""The prose of an answer: its text without markup, its sentences and clauses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from tasks.parallel.votes.latex import unwrap_latex

#: Characters that are read of a longer text: its beginning and its end.
HEAD, TAIL = 2_000, 8_000
_EMPHASIS = re.compile(
    r"\*+|`+|(?<!\w)_+|_+(?!\w)|^#{1,3} (?=\w)|<\|[^|<>]{1,30}\|>|</?(?:b|i|em|strong|s|u|p|br)/?>", re.MULTILINE
)
_MARKUP = re.compile(r"[*`_#<]")
_BLANKS = re.compile(r"[^\S\n]{2,}|[\t\r\f\v]")
SENTENCE_END = re.compile(r"(?<!\b[A-Za-z]\.[a-z])[.!?](?= |\n|$)|[\n。！？]")
_CLAUSE = re.compile(r"\b(?:but|however|yet|aber|jedoch|mais|pero)\b|但是?", re.IGNORECASE)


def plain_text(text: str) -> str:
    """Return the beginning and the end of a text without markup, full-width letters and runs of blanks."""
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + "\n" + text[-TAIL:]
    text = unwrap_latex(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if _MARKUP.search(text):
        text = _EMPHASIS.sub("", text)
    return _BLANKS.sub(" ", text).strip() if "  " in text or not text.isprintable() else text.strip()


def sentences(text: str) -> list[str]:
    """Return the sentences and lines at the end of a text."""
    return [sentence.strip() for sentence in SENTENCE_END.split(text[-TAIL:]) if sentence.strip()]


def clause_before(text: str, end: int) -> str:
    """Return the clause that goes on at a place, as far as it stands before it."""
    return _CLAUSE.split(SENTENCE_END.split(text[max(end - 200, 0) : end])[-1])[-1]


def within_braces(text: str, place: int) -> str:
    """Return what stands between the brace at a place and its partner, at most 500 characters, "" without a partner."""
    depth = 0
    for end in range(place, min(place + 500, len(text))):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return unwrap_latex(text[place + 1 : end]).strip()
    return ""


def is_question(text: str, end: int) -> bool:
    """Whether the sentence that goes on at a place is a question."""
    rest = SENTENCE_END.search(text, end, end + 200)
    return rest is not None and rest.group() in {"?", "？"}


def matches_within(pattern: re.Pattern[str], text: str, windows: Sequence[tuple[int, int]]) -> Iterator[re.Match[str]]:
    """Yield the matches of a pattern within ranges of a text."""
    for start, end in windows:
        yield from pattern.finditer(text, start, end)
