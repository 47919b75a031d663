"""`json`: a section for each element of a JSON array, or for each line of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pydantic_core import from_json

from tasks.contract.errors import BadInput
from tasks.parallel.split.registry import SplitOptions, splitter
from tasks.parallel.split.section import LINE, Section, shorten


class ElementsOptions(SplitOptions):
    #: The path to the array in the document: names of fields, and indices from 0, with full stops between them.
    path: str = Field(default="", max_length=1000)
    #: The field of an element that titles its section.
    title: str = Field(default="", max_length=200)


@splitter(options=ElementsOptions)
def elements(text: str, options: ElementsOptions) -> list[Section]:
    """Make a section of each element of an array: a text as it is, other values as compact JSON.

    The array is the document, the value at `path` in it, or the lines of JSON lines. Empty elements (null, a blank
    text) are left out, but the numbers in the titles count them.
    """
    found = _find_array(text, options.path)
    sections: list[Section] = []
    for number, element in enumerate(found, 1):
        written = "" if element is None else element if isinstance(element, str) else _to_compact_json(element)
        if written.strip():
            titled = _find_title(element, options.title) or f"item {number}"
            sections.append(Section(len(sections), titled, written))
    if not sections:
        raise BadInput("text", "the array of the JSON document has no element with content", "send at least one")
    return sections


def _find_array(text: str, path: str) -> Sequence[Any]:
    try:
        document = _read(text)
    except ValueError as error:
        found = _read_json_lines(text, error)
        if path:
            problem = "goes with one JSON document; this text has one on each line"
            raise BadInput("split_options.path", problem, "leave the option out") from None
        return found
    for step in path.split(".") if path else ():
        document = _step_into(document, step)
    if not isinstance(document, list):
        where = "what is there" if path else "the JSON document"
        raise BadInput(
            "split_options.path", f"{where} is {_kind(document)}, not an array", "name the field that holds the array"
        )
    return document


def _read(text: str) -> Any:
    # Strict and bounded in depth, unlike `json`; a byte order mark is no JSON.
    return from_json(text.removeprefix("\ufeff"), allow_inf_nan=False)


def _read_json_lines(text: str, error: ValueError) -> list[Any]:
    """Return the values of JSON lines; `error` is the error of the text as one document."""
    found: list[Any] = []
    for number, match in enumerate(LINE.finditer(text), 1):
        if not match.group().strip():
            continue
        try:
            found.append(_read(match.group()))
        except ValueError as wrong:
            # The parser's message names kind and place of the mistake, never the text.
            problem = f"is not JSON: {error}" if not found else f"line {number} is not JSON: {wrong}"
            raise BadInput("text", problem, "send one JSON document, or one a line") from None
    return found


def _step_into(document: Any, step: str) -> Any:
    if isinstance(document, Mapping) and step in document:
        return document[step]
    if isinstance(document, list) and step.isascii() and step.isdecimal() and int(step[:10]) < len(document):
        return document[int(step[:10])]
    raise BadInput(
        "split_options.path",
        f"{step!r} is not in the JSON document",
        "write the names of the fields from the top, as in a.b",
    )


def _to_compact_json(element: Any) -> str:
    try:
        return json.dumps(element, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise BadInput("text", "has a number that JSON can't hold", "write it as a text") from None


def _find_title(element: Any, field: str) -> str:
    value = element.get(field) if field and isinstance(element, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return shorten(str(value))


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    return "a text" if isinstance(value, str) else "a single value"
