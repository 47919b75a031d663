"""Rows as Markdown, CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.parallel.joins.parsed import as_text

__all__ = ["as_csv", "as_json_lines", "as_markdown"]

#: Beginnings of cells that spreadsheets compute (OWASP, "CSV Injection"), their full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: What begins like a formula and is none.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*(?:[eE][+-]?[0-9]+)?%?")


def as_markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table as GitHub reads it; ``(no rows)`` where there is nothing to show."""
    if not columns:
        return "(no rows)"
    lines = [_line([_escaped(name) for name in columns]), _line(["---"] * len(columns))]
    lines += [_line([_escaped(_cell(row.get(name))) for name in columns]) for row in rows]
    return "\n".join(lines)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, safe: bool) -> str:
    """A head and a line for each row, by RFC 4180.

    `safe` puts an apostrophe before texts that begin like a formula, as spreadsheets do; numbers stay.
    """
    if not columns:
        return ""
    file = io.StringIO()
    # Before Python 3.13 the writer quotes those ends of lines alone that are its own.
    writer = csv.writer(file, lineterminator="\r\n")
    for cells in (list(columns), *([_cell(row.get(name)) for name in columns] for row in rows)):
        writer.writerow([_harmless(cell) if safe else cell for cell in cells])
    return file.getvalue().removesuffix("\r\n")


def as_json_lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """One object a line, each with all columns; null where the row has none."""
    return "\n".join(as_text({name: row.get(name) for name in columns}) for row in rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    """A cell of Markdown: the backslash first, and `<` so that no cell is read as HTML."""
    for sign in ("\\", "|", "<"):
        cell = cell.replace(sign, f"\\{sign}")
    return "<br>".join(line.strip() for line in cell.strip().splitlines())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else as_text(value)


def _harmless(cell: str) -> str:
    # Some programs cut blanks off before they look.
    begins = cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA)
    return f"'{cell}" if begins and not _NUMBER.fullmatch(cell.strip()) else cell
