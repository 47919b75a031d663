"""The base of all values that are read from outside, and the description of what is wrong in one.

A description is a place and a sentence for each problem; it never shows the value itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

#: A place inside a value: names of fields, and numbers of entries from 0.
Loc: TypeAlias = tuple[str | int, ...]
#: Sentences for pydantic's types of errors, where its own are too much of Python.
Words: TypeAlias = "Mapping[str, str | Callable[[ErrorDetails], str]]"

#: For values that came as JSON.
JSON_WORDS: Words = {
    "dict_type": "must be a JSON object",
    "mapping_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "tuple_type": "must be a JSON array",
}


class Value(BaseModel):
    """Frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One problem. `type` is pydantic's word for it, such as ``missing`` or ``extra_forbidden``."""

    loc: Loc
    text: str
    type: str


def find_problems(error: ValidationError, words: Words | None = None) -> list[FieldProblem]:
    """All problems in pydantic's order, in our `words` where there are some."""
    found = []
    for item in error.errors(include_url=False, include_input=False):
        text = (words or {}).get(item["type"]) or item["msg"].removeprefix("Value error, ")
        if callable(text):
            text = text(item)
        found.append(FieldProblem(item["loc"], text[:1].lower() + text[1:], item["type"]))
    return found


def format_path(loc: Sequence[str | int]) -> str:
    """A place as people write it: ``items[3].text``; "" for the whole value."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).lstrip(".")
