"""The one reader of JSON that a model wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

#: Levels of nesting. Data that is made on purpose has fewer.
MAX_DEPTH = 64


class NotJSON(ValueError):
    """An answer holds no JSON. The message gives the reason and never the text of the answer."""


def parse_answer(text: str, *, embedded: bool = False) -> Any:
    """Return the JSON value of an answer: the whole text, or the content of one fenced block around it.

    With `embedded`, the first fenced block that is JSON counts too where other text stands around it.

    Raises:
        NotJSON: if there is none, if it has more than `MAX_DEPTH` levels, or if it holds NaN or infinity.
    """
    text = text.strip()
    try:
        value = _loads(_without_fence(text))
    except NotJSON:
        if not embedded or "```" not in text:
            raise
        value = _first_block(text)
    _check_finite(value)
    return value


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object of an answer, as `parse_answer` reads it.

    Raises:
        NotJSON: if the answer holds no JSON object.
    """
    value = parse_answer(text)
    if not isinstance(value, dict):
        raise NotJSON("is no JSON object")
    return value


def closed_object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of an object with exactly these properties: providers can promise to keep such a schema.

    Models write the properties in this order, so a reason belongs before the verdict.
    """
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise NotJSON("is nested too deeply") from None
    except ValueError as error:  # a number of 5,000 digits raises another than JSONDecodeError
        raise NotJSON(str(error)) from None


def _refuse_constant(word: str) -> None:
    raise NotJSON(f"{word} is no JSON")


def _without_fence(text: str) -> str:
    # Not by a pattern: its backtracking over runs of blanks would take minutes.
    opening, _, rest = text.partition("\n")
    word = opening[3:].strip()
    fenced = text.startswith("```") and rest.endswith("```") and (not word or word.isalpha())
    return rest[:-3] if fenced else text


def _first_block(text: str) -> Any:
    for block in _fenced_blocks(text):
        try:
            return _loads(block)
        except NotJSON:
            continue
    raise NotJSON("has no fenced block of JSON")


def _fenced_blocks(text: str) -> Iterator[str]:
    """Yield the content of each fenced block; the last block may lack its closing fence."""
    block: list[str] | None = None
    for line in map(str.strip, text.split("\n")):
        if block is None:
            block = [] if line.startswith("```") else None
        elif line.endswith("```"):
            yield "\n".join([*block, line[:-3]])
            block = None
        else:
            block.append(line)
    if block:
        yield "\n".join(block)


def _check_finite(value: Any) -> None:
    """Check each level in a loop: deep nesting would overflow a recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for inner in level:
            if isinstance(inner, dict):
                below.extend(inner.values())
            elif isinstance(inner, list):
                below.extend(inner)
            elif isinstance(inner, float) and not math.isfinite(inner):
                raise NotJSON("holds a number beyond the range of floats")
        if not below:
            return
        level = below
    raise NotJSON(f"has more than {MAX_DEPTH} levels")
