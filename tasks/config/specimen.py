"""A JSON value that a schema allows: the answer of a simulated model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["make_specimen"]

#: Levels of schemas that are followed: a schema may refer to itself.
DEEPEST = 12
#: Items of an array at most.
MOST_ITEMS = 100


def make_specimen(schema: Mapping[str, Any], text: str) -> Any:
    """Make the smallest value that satisfies the common keywords of `schema`; strings are `text`.

    Objects have their required properties, arrays one item or as many as they need, numbers their minimum. Patterns,
    formats and combinations of schemas (``allOf``, ``not``) are not understood.
    """
    return _make(schema, text, schema, DEEPEST)


def _make(schema: Any, text: str, whole: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth == 0:
        return text
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    if (other := _delegate(schema, whole)) is not None:
        return _make(other, text, whole, depth - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or (kind is None and "properties" in schema):
        known = schema.get("properties") or {}
        wanted = schema.get("required") or list(known)
        return {name: _make(known.get(name, {}), text, whole, depth - 1) for name in wanted}
    if kind == "array":
        least = max(int(schema.get("minItems", 0)), min(1, int(schema.get("maxItems", 1))))
        return [_make(schema.get("items", {}), text, whole, depth - 1) for _ in range(min(least, MOST_ITEMS))]
    plain = {"boolean": False, "null": None, "integer": _number(schema), "number": _number(schema)}
    return plain.get(str(kind), _text(schema, text))


def _delegate(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
    """The schema that stands for this one: the target of its reference, or the first of its alternatives."""
    if isinstance(schema.get("$ref"), str):
        return _resolve(schema["$ref"], whole)
    several = next((schema[word] for word in ("anyOf", "oneOf", "allOf") if schema.get(word)), None)
    return None if several is None else several[0]


def _number(schema: Mapping[str, Any]) -> Any:
    if "exclusiveMinimum" in schema:
        return math.floor(schema["exclusiveMinimum"]) + 1
    least = math.ceil(schema.get("minimum", 0))
    return min(least, schema.get("maximum", least))


def _text(schema: Mapping[str, Any], text: str) -> str:
    padded = text.ljust(min(int(schema.get("minLength", 0)), 10_000), ".")
    return padded[: int(schema["maxLength"])] if "maxLength" in schema else padded


def _resolve(name: str, whole: Mapping[str, Any]) -> Any:
    found: Any = whole
    for step in name.removeprefix("#").split("/"):
        if step:
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
    return found
