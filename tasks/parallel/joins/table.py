"""`table`: the outputs as rows of one table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import as_text, parse_all
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Work, coverage, gaps, listed

__all__ = ["TableOptions", "as_csv", "as_json_lines", "as_markdown", "table"]

#: Columns, and cells, of a table: outputs that each bring keys of their own would multiply.
MOST_COLUMNS = 1_000
MOST_CELLS = 5_000_000


class TableOptions(BaseModel):
    """What `join_options` may say to `table`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["markdown", "csv", "jsonl"] = "markdown"
    #: The columns and their order; null: all, in order of appearance.
    columns: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=MOST_COLUMNS)
    #: The name of a first column with the title of the section that a row comes from; null: none.
    titles: str | None = Field(default="section", min_length=1)
    #: Whether cells of a CSV that a spreadsheet would compute as a formula are made texts.
    safe: bool = True
    #: An output that is no JSON fails the join, or is left out and named.
    unreadable: Literal["error", "skip"] = "error"


@joiner(kinds=("sections",), options=TableOptions)
def table(work: Work) -> Joined:
    """One row for each output that is a JSON object, and for each element of one that is an array.

    What is no object stands in a column ``value``. The column of titles is left out where no section has a title, or
    where the data have a column of its name. `confidence` is the share of the sections that are in the table.
    """
    options = work.options if isinstance(work.options, TableOptions) else TableOptions()
    if not work.pieces:
        raise JoinError(f"none of the {len(work.missing)} sections has an output")
    found, unreadable = parse_all(work.pieces, skip=options.unreadable == "skip")
    rows = [(one.piece.title, row) for one in found for row in _rows(one.data)]
    columns = list(options.columns) if options.columns is not None else list(_columns(row for _, row in rows))
    titled = [" ".join(title.split()) for title, _ in rows]
    if options.titles is not None and options.titles not in columns and any(titled):
        columns.insert(0, options.titles)
        rows = [("", {**row, options.titles: title}) for title, (_, row) in zip(titled, rows, strict=True)]
    if len(columns) > MOST_COLUMNS or len(columns) * len(rows) > MOST_CELLS:
        raise JoinError(
            f"the table would have {len(columns):,} columns and {len(rows):,} rows, the limit is {MOST_COLUMNS:,} "
            f"columns and {MOST_CELLS:,} cells; name the columns that are wanted in the join's option columns"
        )
    output = _written([row for _, row in rows], columns, options)
    if options.format == "markdown" and work.missing:
        output = f"{output}\n\n{gaps(work.missing)}"
    details = {
        "sections": len(found),
        "rows": len(rows),
        "columns": columns,
        "missing": listed(work.missing),
        "unreadable": [piece.index for piece in unreadable],
        "confidence": coverage(len(found), len(work.missing) + len(unreadable)),
    }
    return Joined(output, details)


def _rows(data: Any) -> list[Mapping[str, Any]]:
    elements = data if isinstance(data, list) else [data]
    return [element if isinstance(element, dict) else {"value": element} for element in elements]


def _columns(rows: Any) -> Mapping[str, None]:
    return {name: None for row in rows for name in row}


def _written(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], options: TableOptions) -> str:
    if options.format == "csv":
        return as_csv(rows, columns, safe=options.safe)
    if options.format == "jsonl":
        return as_json_lines(rows, columns)
    return as_markdown(rows, columns)


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
