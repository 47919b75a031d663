"""`tokens`: sections of a limited number of tokens, for models with a small window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from tasks.contract.tokens import count
from tasks.parallel.split.registry import SplitOptions, splitter
from tasks.parallel.split.section import Section
from tasks.parallel.split.units import paragraph_ends, sentence_ends

#: Tokens added to each piece of a word: `tasks.contract.tokens` may undercount a word that is cut in two, since its
#: first letters cost no more than the word.
CUT_WORD = 1.0
#: Characters to look back for each token of an overlap: few texts have as many in a token.
REACH = 8

#: The end of a stretch that is not cut, and its tokens.
_Atom: TypeAlias = tuple[int, float]

_WORD = re.compile(r"\S*\s*")


class TokensOptions(SplitOptions):
    #: Most tokens of a section, by Pointsman's estimate, which is the same for all models.
    budget: int = Field(default=2000, ge=16, le=1_000_000)
    #: Most tokens at the start of a section that repeat the end of the one before; at most half the budget.
    overlap: int = Field(default=0, ge=0)

    @field_validator("overlap")
    @classmethod
    def _half(cls, value: int, info: ValidationInfo) -> int:
        budget = info.data.get("budget")
        if budget is not None and value > budget // 2:
            raise ValueError(f"may be half the budget at most, {budget // 2}")
        return value


@splitter(options=TokensOptions)
def tokens(text: str, options: TokensOptions) -> list[Section]:
    """Fill sections up to `budget`; cut at the ends of paragraphs, and in a long paragraph at the ends of sentences.

    A sentence that is too long is cut between words, a word between letters. An overlap begins with a sentence if one
    fits into it, else with a word; there is none where a word was cut. Takes linear time.
    """
    room = options.budget - options.overlap
    spans: list[tuple[int, int]] = []
    start = place = 0
    held = 0.0
    for end, weight in _cut_text(text, room):
        # An overlap counts with its full allowance.
        if place > start and held + weight > (room if spans else options.budget):
            spans.append((start, place))
            start, held = place, 0.0
        place, held = end, held + weight
    if start < len(text):
        spans.append((start, len(text)))
    sections: list[Section] = []
    for index, (begin, end) in enumerate(spans):
        repeated = _measure_overlap(text, *spans[index - 1], options.overlap) if index and options.overlap else 0
        title = f"part {index + 1} of {len(spans)}"
        sections.append(Section(index, title, text[begin - repeated : end], repeated))
    return sections


def _cut_text(text: str, room: int) -> Iterator[_Atom]:
    """Yield the text in stretches of at most `room` tokens, each as large a unit as fits."""
    start = 0
    for end in paragraph_ends(text):
        yield from _cut_paragraph(text[start:end], start, room)
        start = end


def _cut_paragraph(paragraph: str, at: int, room: int) -> Iterator[_Atom]:
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
            yield from _cut_sentence(sentence, at + start, room)
        start = end


def _cut_sentence(sentence: str, at: int, room: int) -> Iterator[_Atom]:
    for match in _WORD.finditer(sentence):
        word = match.group()
        if not word:
            return
        weight = count(word)
        if weight <= room:
            yield at + match.end(), weight
        else:
            yield from _cut_word(word, at + match.start(), room)


def _cut_word(word: str, at: int, room: int) -> Iterator[_Atom]:
    # Pieces of this length fit at once if the letters of the word are alike; else they are halved until they do.
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


def _measure_overlap(text: str, start: int, end: int, most: int) -> int:
    """Return the number of characters at the end of a section that the next one repeats."""
    if text[end - 1].isalnum():
        return 0  # the section ends within a word: the counts would not add up
    first = max(start, end - REACH * most)
    tail = text[first:end]
    # The first unit of the tail may have begun before the tail.
    whole = [0] if first == start else []
    fitting = _longest_tail(tail, [*whole, *list(sentence_ends(tail))[:-1]], most)
    if not fitting:
        words = [match.end() for match in _WORD.finditer(tail) if match.group()]
        fitting = _longest_tail(tail, [*whole, *words[:-1]], most)
    return fitting


def _longest_tail(tail: str, begins: list[int], most: int) -> int:
    """Return the characters from the first of these places whose tail has at most so many tokens; 0 if none has."""
    best, held, end = 0, 0.0, len(tail)
    for begin in reversed(begins):
        held += count(tail[begin:end])
        if held > most:
            break
        best, end = len(tail) - begin, begin
    return best
