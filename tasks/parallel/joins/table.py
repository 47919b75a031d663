"""The outputs as rows of one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.gaps import coverage, gaps
from tasks.parallel.joins.parsed import parse_all
from tasks.parallel.joins.rows import as_csv, as_json_lines, as_markdown
from tasks.parallel.joins.values import Joined, Work, listed

__all__ = ["TableOptions", "table"]

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
