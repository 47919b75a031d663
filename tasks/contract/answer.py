"""The JSON that a model wrote."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_answer"]


def parse_answer(text: str) -> Any:
    """The JSON of an answer, also out of a fenced block.

    Raises:
        ValueError: if it is none.
    """
    text = text.strip()
    # Not by a pattern: its backtracking over runs of blanks would take minutes.
    opening, _, rest = text.partition("\n")
    word = opening[3:].strip()
    if text.startswith("```") and rest.endswith("```") and (not word or word.isalpha()):
        text = rest[:-3]
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
