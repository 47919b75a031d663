"""`table`: the outputs as rows of one table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import as_text, parse_outputs
from tasks.parallel.joins.registry import JoinOptions, joiner
from tasks.parallel.joins.work import Joined, Work, coverage, with_missing_notes

#: Columns and cells of a table at most: outputs with different keys multiply both.
MOST_COLUMNS = 1_000
MOST_CELLS = 5_000_000


class TableOptions(JoinOptions):
    """The `join_options` of `table`."""

    format: Literal["markdown", "csv", "jsonl"] = "markdown"
    #: The columns and their order; null: all, in order of appearance.
    columns: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=MOST_COLUMNS)
    #: The name of a first column with the section titles; null: no such column.
    titles: str | None = Field(default="section", min_length=1)
    #: Whether CSV cells that a spreadsheet would compute as formulas become texts.
    safe: bool = True
    #: An output that is no JSON fails the join, or is left out and listed in `details`.
    unreadable: Literal["error", "skip"] = "error"


@joiner(kinds=("sections",), options=TableOptions)
def table(work: Work) -> Joined:
    """Make a row of each output that is a JSON object, and of each element of an output that is an array.

    Other values go into a column ``value``. There is no column of titles if no section has a title, or if the data have
    a column of its name. `confidence` is the share of the sections that are in the table.
    """
    options = work.options_as(TableOptions)
    work.require_pieces()
    found, unreadable = parse_outputs(work.pieces, skip=options.unreadable == "skip")
    rows = [(piece.title, row) for piece, data in found for row in _make_rows(data)]
    columns = (
        list(options.columns)
        if options.columns is not None
        else list(dict.fromkeys(name for _, row in rows for name in row))
    )
    titled = [" ".join(title.split()) for title, _ in rows]
    if options.titles is not None and options.titles not in columns and any(titled):
        columns.insert(0, options.titles)
        rows = [("", {**row, options.titles: title}) for title, (_, row) in zip(titled, rows, strict=True)]
    if len(columns) > MOST_COLUMNS or len(columns) * len(rows) > MOST_CELLS:
        raise JoinError(
            f"the table would have {len(columns):,} columns and {len(rows):,} rows, the limit is {MOST_COLUMNS:,} "
            f"columns and {MOST_CELLS:,} cells; name the columns that are wanted in the join's option columns"
        )
    output = _format_table([row for _, row in rows], columns, options)
    if options.format == "markdown":
        output = with_missing_notes(output, work.missing)
    details = {
        "sections": len(found),
        "rows": len(rows),
        "columns": columns,
        **work.gaps(),
        "unreadable": [piece.index for piece in unreadable],
        "confidence": coverage(len(found), len(work.missing) + len(unreadable)),
    }
    return Joined(output, details)


def _make_rows(data: Any) -> list[Mapping[str, Any]]:
    elements = data if isinstance(data, list) else [data]
    return [element if isinstance(element, dict) else {"value": element} for element in elements]


def _format_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], options: TableOptions) -> str:
    if options.format == "csv":
        return as_csv(rows, columns, safe=options.safe)
    if options.format == "jsonl":
        return as_json_lines(rows, columns)
    return as_markdown(rows, columns)


#: Beginnings of cells that spreadsheets compute (OWASP, "CSV Injection"), their full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: Numbers begin like a formula and are none.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*(?:[eE][+-]?[0-9]+)?%?")


def as_markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write a table of GitHub's Markdown; ``(no rows)`` if it has no columns."""
    if not columns:
        return "(no rows)"
    lines = [_format_line([_escape(name) for name in columns]), _format_line(["---"] * len(columns))]
    lines += [_format_line([_escape(_format_cell(row.get(name))) for name in columns]) for row in rows]
    return "\n".join(lines)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, safe: bool) -> str:
    """Write a header and the rows as CSV by RFC 4180.

    With `safe`, texts that begin like a formula get an apostrophe, as in spreadsheets; numbers stay.
    """
    if not columns:
        return ""
    file = io.StringIO()
    # Before Python 3.13, the writer quotes cells with its own line terminator only.
    writer = csv.writer(file, lineterminator="\r\n")
    for cells in (list(columns), *([_format_cell(row.get(name)) for name in columns] for row in rows)):
        writer.writerow([_neutralize(cell) if safe else cell for cell in cells])
    return file.getvalue().removesuffix("\r\n")


def as_json_lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Write one object a line, each with all columns; null for a missing cell."""
    return "\n".join(as_text({name: row.get(name) for name in columns}) for row in rows)


def _format_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(cell: str) -> str:
    """Escape a Markdown cell: the backslash first, and `<`, so that no cell is read as HTML."""
    for sign in ("\\", "|", "<"):
        cell = cell.replace(sign, f"\\{sign}")
    return "<br>".join(line.strip() for line in cell.strip().splitlines())


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else as_text(value)


def _neutralize(cell: str) -> str:
    # Some programs strip blanks before they look for a formula.
    begins = cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA)
    return f"'{cell}" if begins and not _NUMBER.fullmatch(cell.strip()) else cell
