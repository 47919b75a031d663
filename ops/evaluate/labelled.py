"""Texts with their labels, from a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.contract.errors import BadInput

#: What a line is, for remedies.
_SHAPE = 'a line is {"text": "…", "label": "…"}, with label null for what is out of scope'


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its label; None is out of scope."""

    text: str
    label: str | None


def read_labelled(path: Path, *, field: str, may_be_one_label: bool = False) -> list[Labelled]:
    """The rows of `path`. Blank lines are skipped, fields besides ``text`` and ``label`` ignored.

    Raises:
        BadInput: `field` and the line that can't be used, and why; also if there are not two labels at least, or, with
            `may_be_one_label`, not one.
    """
    rows = [_row(path, number, line, field) for number, line in _lines(path, field) if line.strip()]
    labels = {row.label for row in rows} - {None}
    least = 1 if may_be_one_label else 2
    if len(labels) < least:
        raise BadInput(
            field,
            f"{path} has {len(rows)} texts of {len(labels)} label{'' if len(labels) == 1 else 's'}",
            f"give it texts of {least} label{'s' if least > 1 else ''} at least",
        )
    return rows


def _lines(path: Path, field: str) -> Iterator[tuple[int, str]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(field, f"{path} can't be read: {error.strerror}", "give a file of JSON lines") from None
    # Not `splitlines`: a JSON text may hold the line ends that Unicode knows beside \n.
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError:
            raise BadInput(field, f"{path}:{number} is not UTF-8 text", "convert the file first") from None


def _row(path: Path, number: int, line: str, field: str) -> Labelled:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise BadInput(field, f"{path}:{number} is not JSON", _SHAPE) from None
    if not isinstance(value, dict):
        raise BadInput(field, f"{path}:{number} is JSON, but no object", _SHAPE)
    text = value.get("text")
    if not isinstance(text, str):
        raise BadInput(field, f"{path}:{number}: text is {_kind(value, 'text')}", _SHAPE)
    if "label" not in value or not isinstance(value["label"], str | None) or value["label"] == "":
        raise BadInput(field, f"{path}:{number}: label is {_kind(value, 'label')}", _SHAPE)
    return Labelled(text, value["label"])


def _kind(value: dict[str, object], name: str) -> str:
    if name not in value:
        return "missing"
    if value[name] == "":
        return "empty"
    return f"of type {type(value[name]).__name__}, not a string"
