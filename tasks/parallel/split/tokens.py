"""Sections of so many tokens at most, for models with a small window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from tasks.contract.tokens import count
from tasks.parallel.split.registry import SplitOptions, splitter
from tasks.parallel.split.section import Section
from tasks.parallel.split.units import paragraph_ends, sentence_ends

__all__ = ["Tokens", "tokens"]

#: Tokens that the tokens of a word cut in two may be undercounted by (`tasks.contract.tokens`: a word's first letters
#: cost nothing more than the word); each piece is charged with them.
CUT_WORD = 1.0
#: Characters of an overlap that are looked at, for each of its tokens: few texts have as many.
REACH = 8

#: Where a stretch that is not cut ends, and what it weighs in tokens.
_Atom: TypeAlias = tuple[int, float]

_WORD = re.compile(r"\S*\s*")


class Tokens(SplitOptions):
    #: Tokens of a section at most, as Pointsman estimates them for all models alike.
    budget: int = Field(default=2000, ge=16, le=1_000_000)
    #: Tokens at the start of a section, at most, that repeat the end of the one before. At most half the budget.
    overlap: int = Field(default=0, ge=0)

    @field_validator("overlap")
    @classmethod
    def _half(cls, value: int, info: ValidationInfo) -> int:
        budget = info.data.get("budget")
        if budget is not None and value > budget // 2:
            raise ValueError(f"may be half the budget at most, {budget // 2}")
        return value


@splitter(options=Tokens)
def tokens(text: str, options: Tokens) -> list[Section]:
    """Fill sections up to `budget`, cutting where paragraphs end; one that is too long, where its sentences do.

    A sentence that is too long is cut between words, a word between letters. Takes linear time. An overlap begins with
    a sentence where one fits into it, else with a word. There is none where a word was cut.
    """
    room = options.budget - options.overlap
    spans: list[tuple[int, int]] = []
    start = place = 0
    held = 0.0
    for end, weight in _atoms(text, room):
        # What overlaps is charged with all it may have.
        if place > start and held + weight > (room if spans else options.budget):
            spans.append((start, place))
            start, held = place, 0.0
        place, held = end, held + weight
    if start < len(text):
        spans.append((start, len(text)))
    sections: list[Section] = []
    for index, (begin, end) in enumerate(spans):
        repeated = _overlap(text, *spans[index - 1], options.overlap) if index and options.overlap else 0
        title = f"part {index + 1} of {len(spans)}"
        sections.append(Section(index, title, text[begin - repeated : end], repeated))
    return sections


def _atoms(text: str, room: int) -> Iterator[_Atom]:
    """The text in stretches of at most `room` tokens, each as large a unit as fits."""
    start = 0
    for end in paragraph_ends(text):
        yield from _of_paragraph(text[start:end], start, room)
        start = end


def _of_paragraph(paragraph: str, at: int, room: int) -> Iterator[_Atom]:
    weight = count(paragraph)
    if weight <= room:
        yield at + len(paragraph), weight
        return
    start = 0
    for end in sentence_ends(paragraph):
        sentence = paragraph[start:end]
        weight = count(sentence)
        if weight <= room:
            yield at + end, weight
        else:
            yield from _of_sentence(sentence, at + start, room)
        start = end


def _of_sentence(sentence: str, at: int, room: int) -> Iterator[_Atom]:
    for match in _WORD.finditer(sentence):
        word = match.group()
        if not word:
            return
        weight = count(word)
        if weight <= room:
            yield at + match.end(), weight
        else:
            yield from _of_word(word, at + match.start(), room)


def _of_word(word: str, at: int, room: int) -> Iterator[_Atom]:
    # As long as the word's letters are alike, pieces of this length fit at once; else they are halved until they do.
    step = max(1, int(0.9 * (room - CUT_WORD) * len(word) / count(word)))
    pending = [(start, min(start + step, len(word))) for start in range(0, len(word), step)][::-1]
    while pending:
        start, end = pending.pop()
        weight = count(word[start:end]) + CUT_WORD
        if weight <= room or end - start == 1:
            yield at + end, weight
        else:
            middle = (start + end) // 2
            pending += [(middle, end), (start, middle)]


def _overlap(text: str, start: int, end: int, most: int) -> int:
    """Characters at the end of a section that the next one begins with."""
    if text[end - 1].isalnum():
        return 0  # it ends within a word: the counts would not add up
    first = max(start, end - REACH * most)
    tail = text[first:end]
    # What the tail begins with may have begun before it.
    whole = [0] if first == start else []
    fitting = _longest(tail, [*whole, *list(sentence_ends(tail))[:-1]], most)
    if not fitting:
        words = [match.end() for match in _WORD.finditer(tail) if match.group()]
        fitting = _longest(tail, [*whole, *words[:-1]], most)
    return fitting


def _longest(tail: str, begins: list[int], most: int) -> int:
    """Characters from the first of these places to the end that are at most so many tokens; 0 if none is."""
    best, held, end = 0, 0.0, len(tail)
    for begin in reversed(begins):
        held += count(tail[begin:end])
        if held > most:
            break
        best, end = len(tail) - begin, begin
    return best
