"""How varied several answers to one prompt are. Pure.

Two measures of the literature, each from 0 (all the same) to 1: distinct-2, the share of different word pairs among all
word pairs (Li et al., arXiv:1510.03055), and the mean dissimilarity of two answers, 1 - Jaccard's index of their word
pairs (as self-BLEU, Zhu et al., arXiv:1802.01886, but symmetric and without a tuned smoothing). They say how different
answers are, not how good: noise is varied, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

__all__ = ["Diversity", "diversity"]

#: Words of an answer that count: distinct-n falls with length, so that long answers would look alike.
WORDS = 100

_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Diversity:
    distinct_2: float
    dissimilarity: float

    @property
    def mean(self) -> float:
        return (self.distinct_2 + self.dissimilarity) / 2


def diversity(answers: Sequence[str]) -> Diversity | None:
    """Of the answers to one prompt; None for fewer than two that say something."""
    counted = [pairs for answer in answers if (pairs := _pairs(answer))]
    if len(counted) < 2:
        return None
    everything = [pair for pairs in counted for pair in pairs]
    apart = [1 - _jaccard(set(one), set(other)) for one, other in combinations(counted, 2)]
    return Diversity(len(set(everything)) / len(everything), sum(apart) / len(apart))


def _pairs(answer: str) -> list[tuple[str, str]]:
    """Neighbouring words of the beginning; a single word stands beside its end."""
    words = _words(answer)[:WORDS]
    return list(pairwise(words)) if len(words) > 1 else [(words[0], "")] if words else []


def _words(answer: str) -> list[str]:
    """Runs of letters, whatever their case; in scripts without spaces each letter counts as a word."""
    words: list[str] = []
    run = ""
    for letter in answer.casefold():
        if "⺀" <= letter <= "鿿" or "฀" <= letter <= "๿":
            words += [run, letter] if run else [letter]
            run = ""
        elif _WORD.match(letter) or (letter in "'’" and run):
            run += letter
        elif run:
            words.append(run)
            run = ""
    return [*words, run] if run else words


def _jaccard(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> float:
    return len(one & other) / len(one | other)
