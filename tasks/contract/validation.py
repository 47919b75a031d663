"""The base of all values that are read from outside, and the description of what is wrong in one.

A description is a place and a sentence for each problem; it never shows the value itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, ValidationInfo, field_validator
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


#: Levels of a JSON value inside a job or a configuration.
MOST_LEVELS = 64


class FrozenModel(BaseModel):
    """Frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(FrozenModel):
    """Read from outside. A number is a number: no text, and not true or false, which pydantic takes for 1 and 0.

    A number without a fraction is an integer, however it is written: ``5``, ``5.0``, ``5e0``. JSON of any form is
    finite, and not nested without end.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _check_type(cls, value: Any, info: ValidationInfo) -> Any:
        kind = _field_kinds(cls).get(info.field_name or "")
        if kind == "json":
            check_json(value)
        elif kind == "boolean" and not isinstance(value, bool | None):
            raise ValueError("input should be a valid boolean: true or false")
        elif kind in {"integer", "number"}:
            check_number(value, kind)
        elif kind == "number or word" and isinstance(value, bool):
            raise ValueError(f"input should be a valid {kind}, not true or false")
        return value


@cache
def _field_kinds(model: type[BaseModel]) -> Mapping[str, str]:
    """The fields that hold an integer or a number (or a list or a mapping of them), a boolean, or JSON of any form."""
    kinds = {}
    for name, field in model.model_fields.items():
        leaves = set(_leaves(field.annotation)) - {type(None)}
        types = {leaf if isinstance(leaf, type) else type(leaf) for leaf in leaves}
        if JsonValue in leaves:
            kinds[name] = "json"
        elif leaves == {bool}:
            kinds[name] = "boolean"
        elif types and types <= {int, float}:
            kinds[name] = "number" if float in types else "integer"
        elif str not in leaves and types <= {int, float, str} and types != {str}:
            kinds[name] = "number or word"
    return kinds


def _leaves(annotation: Any) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is JsonValue or not arguments:
        yield annotation
        return
    if origin is Annotated:
        arguments = arguments[:1]
    for argument in arguments[1:] if origin is Mapping else arguments:
        if argument is not ...:
            yield from _leaves(argument)


def check_number(value: Any, kind: str = "number") -> Any:
    """Refuse texts and booleans in place of a number, also within a list or a mapping; returns the value.

    Raises:
        ValueError: with the problem.
    """
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else (value,)
    for entry in entries:
        if isinstance(entry, bool | str):
            found = "a text" if isinstance(entry, str) else "true or false"
            problem = f"input should be a valid {kind}, not {found}"
            raise ValueError(problem)  # noqa: TRY004 - pydantic places it
    return value


def check_json(value: Any) -> None:
    """Refuse what is no JSON for every reader: NaN and infinity, numbers beyond a double, and endless nesting.

    Raises:
        ValueError: with the problem.
    """
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        below: list[Any] = []
        for inner in level:
            if isinstance(inner, Mapping):
                below.extend(inner.values())
            elif isinstance(inner, list | tuple):
                below.extend(inner)
            elif isinstance(inner, int | float) and not -_LARGEST <= inner <= _LARGEST:
                raise ValueError("holds NaN, infinity, or a number beyond 1.8e308, which JSON can't hold")
        if not below:
            return
        level = below
    raise ValueError(f"is nested more than {MOST_LEVELS} levels deep")


_LARGEST = sys.float_info.max


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
