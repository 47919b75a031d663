"""The inputs of commands: texts from arguments, files and pipes, documents, and ``name=value`` options."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.cli.exits import Failure
from tasks.contract.encoding import decode_text

if TYPE_CHECKING:
    from tasks.documents.plain import Reading


def read_text(text: str | None, file: Path | None, *, needed: bool = True) -> str | None:
    """Return the text of the argument, of `file`, or of standard input (for ``-``, or if neither is given).

    Unless the text is `needed`, a pipe is not read without ``-``, and None means that there is no text.
    """
    if text is not None and file is not None:
        raise _both_given()
    if text == "-" or (file is not None and str(file) == "-"):
        return _read_stdin()
    if text is not None:
        return text
    if file is not None:
        return read_file(file).text
    if not needed:
        return None
    if sys.stdin is None or sys.stdin.isatty():
        raise Failure(
            "usage", "no text is given", field="text", remedy="give it as argument, with --file, or on standard input"
        )
    return _read_stdin()


def read_file(file: Path) -> Reading:
    """Read a text or a document, or standard input (``-``)."""
    from tasks.contract.errors import BadInput
    from tasks.documents import Document, reader
    from tasks.documents.plain import Reading

    if str(file) == "-":
        return Reading(_read_stdin())
    try:
        return reader.read_documents([Document(file.name, _bytes(file))], at=lambda _: "file")[0]
    except BadInput as error:
        raise Failure("bad_input", f"{file} {error.problem}", field="file", remedy=error.remedy) from None


def read_documents(text: str | None, files: Sequence[Path]) -> list[dict[str, str]] | None:
    """Return files in the form of the job's field `files`; None without files, or for ``-`` alone: standard input."""
    if text is not None and files:
        raise _both_given()
    if not files or [str(file) for file in files] == ["-"]:
        return None
    return [{"name": file.name, "data": base64.b64encode(_bytes(file)).decode()} for file in files]


def read_job(file: Path) -> dict[str, Any]:
    """Read the fields of a job from a JSON file, or from standard input (``-``)."""
    from pydantic_core import from_json

    try:
        job = from_json(_read_stdin() if str(file) == "-" else decode_text(_bytes(file)), allow_inf_nan=False)
    except ValueError as error:
        raise Failure("bad_input", f"{file} is not JSON: {error}", field="job", remedy="give one JSON object") from None
    if not isinstance(job, dict):
        remedy = "give the fields of one job; many jobs are a batch: pointsman batch submit"
        raise Failure("bad_input", f"{file} is not one JSON object", field="job", remedy=remedy)
    return job


def _both_given() -> Failure:
    return Failure("usage", "both TEXT and --file are given", field="text", remedy="give one of them")


def _bytes(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure("bad_input", f"{file} can't be read: {error.strerror}", field="file") from None
    if not data.strip():
        raise Failure("bad_input", f"{file} is empty", field="file")
    return data


def _read_stdin() -> str:
    try:
        return decode_text(sys.stdin.buffer.read())
    except UnicodeDecodeError:
        raise Failure(
            "bad_input",
            "standard input is not UTF-8 text",
            field="text",
            remedy="convert it first, or name a document with --file",
        ) from None


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Parse a repeated ``name=value`` option."""
    found: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise Failure("usage", f"--{option} {item!r} is not name=value", field=option)
        found[name] = value
    return found


def values(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Parse a repeated ``name=value`` option whose values may be JSON: ``n=3`` is a number, ``n='"3"'`` a text."""
    return {name: _value(text) for name, text in pairs(option, given).items()}


def _value(text: str) -> Any:
    from pydantic_core import from_json

    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, TypeError):  # the latter: bytes that are no UTF-8
        return text
