"""The JSON Schema of the value that a vote states, for models that can be held to one. Pure.

Only keywords that every provider takes stand in a form, so the bounds of a score are in its description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tasks.parallel.votes.normalize import normalize

#: None: nothing is declared that a form could ask for.
Form: TypeAlias = "Mapping[str, Any] | None"

#: Choices of one form, and characters of all of them: OpenAI takes 250 of any length, and 15,000 characters of more.
MOST_CHOICES = 250
MOST_CHARACTERS = 7_500


def choice_form(choices: Sequence[str]) -> Form:
    """Return the form of one of these choices; of two with equal ballots the first stands for both."""
    ballots: dict[str, str] = {}
    for choice in choices:
        ballots.setdefault(normalize(choice), choice)
    distinct = list(ballots.values())
    if not distinct or len(distinct) > MOST_CHOICES or sum(map(len, distinct)) > MOST_CHARACTERS:
        return None
    return {"type": "string", "enum": distinct}


def score_form(least: float | None, most: float | None) -> Form:
    """Return the form of a number on a scale with at least one bound."""
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", least), ("at most", most)) if bound is not None]
    return {"type": "number", "description": f"The score, {' and '.join(bounds)}."} if bounds else None


def ranking_form(among: Sequence[str]) -> Form:
    """Return the form of a list of these candidates, the best first."""
    choices = choice_form(among)
    if choices is None:
        return None
    return {"type": "array", "items": choices, "description": "All of them, each once, the best first."}
