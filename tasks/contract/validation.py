"""The base of all values that are read from outside, and the description of what is wrong in one.

A description is a place and a sentence for each problem; it never shows the value itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, JsonValue, ValidationError
from pydantic_core import CoreSchema, ErrorDetails
from pydantic_core.core_schema import no_info_before_validator_function

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
        elif leaves and leaves <= {int, float}:
            kinds[name] = "number" if float in leaves else "integer"
        elif str not in leaves and types <= {int, float, str} and not leaves.isdisjoint({int, float}):
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


def _guard(schema: Any, kind: str) -> Any:
    """Put the check of this kind before a schema; that of numbers before each number in it, so that errors name it."""
    if schema["type"] == "function-before" and schema["function"]["function"] is _CHECKS[kind]:
        return schema  # pydantic hands out the schema of a class more than once
    if kind not in {"integer", "number"} or schema["type"] in {"int", "float"}:
        return no_info_before_validator_function(_CHECKS[kind], schema)
    for name in ("schema", "items_schema", "values_schema"):
        if isinstance(schema.get(name), list):
            schema[name] = [_guard(one, kind) for one in schema[name]]
        elif name in schema:
            schema[name] = _guard(schema[name], kind)
    return schema


def _check_number(value: Any, *, kind: str = "number") -> Any:
    """Refuse texts and booleans in place of a number."""
    if isinstance(value, bool) or (isinstance(value, str) and kind != "number or word"):
        found = "a text" if isinstance(value, str) else "true or false"
        problem = f"input should be a valid {kind}, not {found}"
        raise ValueError(problem)
    return value


def _check_boolean(value: Any) -> Any:
    if not isinstance(value, bool | None):
        raise ValueError("input should be a valid boolean: true or false")  # noqa: TRY004 - pydantic places it
    return value


def _check_json(value: Any) -> Any:
    """Refuse what is no JSON for every reader: NaN and infinity, numbers beyond a double, and endless nesting."""
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
            return value
        level = below
    raise ValueError(f"is nested more than {MOST_LEVELS} levels deep")


_LARGEST = sys.float_info.max
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "boolean": _check_boolean,
    "json": _check_json,
    **{kind: partial(_check_number, kind=kind) for kind in ("integer", "number", "number or word")},
}


class Value(FrozenModel):
    """Read from outside. A number is a number: no text, and not true or false, which pydantic takes for 1 and 0.

    A number without a fraction is an integer, however it is written: ``5``, ``5.0``, ``5e0``. JSON of any form is
    finite, and not nested without end.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Not by a validator of all fields: it would run in Python for texts, too, which most fields are.
        schema = inner = handler(source)
        while inner["type"] != "model-fields":
            inner = inner["schema"]
        kinds = _field_kinds(cls)
        for name, field in inner["fields"].items():
            place: Any = field["schema"] if field["schema"]["type"] == "default" else field
            if name in kinds:
                place["schema"] = _guard(place["schema"], kinds[name])
        return schema


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
