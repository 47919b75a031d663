"""A JSON value that a schema allows, for models that are simulated: what it says proves nothing, its shape is right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["specimen"]

#: Schemas within schemas that are followed; one that holds itself would never end.
DEEPEST = 12
#: Items of an array at most.
MOST_ITEMS = 100


def specimen(schema: Mapping[str, Any], text: str) -> Any:
    """The plainest value that satisfies `schema`, as far as its usual words go; strings are `text`.

    Objects have what is required, arrays as few items as may be but one where that is allowed, numbers the least that
    may be. Patterns, formats and combinations of several schemas (``allOf``, ``not``) are not understood.
    """
    return _of(schema, text, schema, DEEPEST)


def _of(schema: Any, text: str, whole: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth == 0:
        return text
    if "const" in schema or schema.get("enum"):
        return schema["const"] if "const" in schema else schema["enum"][0]
    if (other := _elsewhere(schema, whole)) is not None:
        return _of(other, text, whole, depth - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or (kind is None and "properties" in schema):
        known = schema.get("properties") or {}
        wanted = schema.get("required") or list(known)
        return {name: _of(known.get(name, {}), text, whole, depth - 1) for name in wanted}
    if kind == "array":
        least = max(int(schema.get("minItems", 0)), min(1, int(schema.get("maxItems", 1))))
        return [_of(schema.get("items", {}), text, whole, depth - 1) for _ in range(min(least, MOST_ITEMS))]
    plain = {"boolean": False, "null": None, "integer": _number(schema), "number": _number(schema)}
    return plain.get(str(kind), _text(schema, text))


def _elsewhere(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
    """The schema that this one leaves it to: one that it names, or the first of several."""
    if isinstance(schema.get("$ref"), str):
        return _referred(schema["$ref"], whole)
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


def _referred(name: str, whole: Mapping[str, Any]) -> Any:
    found: Any = whole
    for step in name.removeprefix("#").split("/"):
        if step:
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
    return found
