"""Surface features of a prompt: its length, options, numbers and symbols, and the kind of question that it asks.

The difficulty of a question shows more in its surface than in its topic: docs/explanation/cost-quality.md has the
figures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"

#: Characters that are read; the feature "characters" counts all of them.
READ_CHARACTERS = 16_000
#: Letters from which a word counts as long.
LONG_WORD = 10

_OPTION = re.compile(r"\s*[A-J][.)]\s(.*)")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_SENTENCE_END = re.compile(r"[.!?]")
_NEGATION = re.compile(r"\b(?:not|except|least|false|never|incorrect)\b")
_CALCULATION = re.compile(r"\b(?:how many|how much|calculate|compute|find)\b")
_COMBINED = re.compile(r"\b(?:all|none|both|neither) of\b|\bi and ii\b")
_WHICH = re.compile(r"\b(?:which|what)\b")
_WHO = re.compile(r"\b(?:who|when|where)\b")
_WHY = re.compile(r"\b(?:why|how)\b")
_CODE = re.compile(r"\bdef |\bfunction\b")
_DIGIT = re.compile(r"\d")


def measure_surface(text: str) -> dict[str, float]:
    """Measure one text: finite numbers by name, also for an empty text."""
    length = len(text)
    text = text[:READ_CHARACTERS]
    low = text.lower()
    lines = [line for line in text.split("\n") if line.strip()]
    options = [match[1] for line in lines if (match := _OPTION.match(line))]
    outside = sum(len(line) + 1 for line in lines if not _OPTION.match(line))
    sizes = [len(option) for option in options] or [0]
    words, numbers = _WORD.findall(text), _NUMBER.findall(text)
    characters, count = max(1, len(text)), max(1, len(words))
    return {
        "characters": math.log1p(length),
        "characters outside options": math.log1p(outside),
        "characters of an option": math.log1p(fmean(sizes)),
        "spread of the options' lengths": math.log1p(pstdev(sizes)),
        "longest option over the mean": max(sizes) / (1 + fmean(sizes)),
        "options": len(options),
        "options with a digit": fmean(bool(_DIGIT.search(option)) for option in options) if options else 0.0,
        "an option combines others": any(_COMBINED.search(option.lower()) for option in options),
        "lines": math.log1p(len(lines)),
        "sentences": math.log1p(len(_SENTENCE_END.findall(text))),
        "numbers": math.log1p(len(numbers)),
        "numbers a word": len(numbers) / count,
        "digits": sum(map(str.isdigit, text)) / characters,
        "capitals": sum(map(str.isupper, text)) / characters,
        "symbols": sum(not letter.isalnum() and not letter.isspace() for letter in text) / characters,
        "backslashes": text.count("\\") / characters,
        "dollar signs": text.count("$") / characters,
        "letters a word": fmean(map(len, words)) if words else 0.0,
        "long words": sum(len(word) >= LONG_WORD for word in words) / count,
        "different words": len({word.lower() for word in words}) / count,
        "a blank to fill": "_" in text,
        "a question mark": "?" in text,
        "negation": bool(_NEGATION.search(low)),
        "statements": "statement" in low,
        "the following": "following" in low,
        "a calculation": bool(_CALCULATION.search(low)),
        "which or what": bool(_WHICH.search(low)),
        "who, when or where": bool(_WHO.search(low)),
        "why or how": bool(_WHY.search(low)),
        "code": bool(_CODE.search(low)),
    }


#: The names of the features, in the order of `measure_surface`.
NAMES: tuple[str, ...] = tuple(measure_surface(""))


def surface_rows(texts: Sequence[str]) -> Floats:
    """Measure many texts: a row for each text, a column for each of `NAMES`."""
    rows = [list(measure_surface(text).values()) for text in texts]
    return np.array(rows, np.float64).reshape(len(texts), len(NAMES))
