"""`rows`: a section for each row of a table, or for several rows, under the table's header."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from tasks.contract.errors import BadInput
from tasks.parallel.split.registry import SplitOptions, nothing_found, splitter
from tasks.parallel.split.section import FENCE, Section, closing_fence, span_title, split_lines

#: Possible delimiters of a table of characters; the most frequent in the first line is used, or the first of equals.
DELIMITERS = "\t;,|"
#: The least share of rows with as many fields as the first row: with less, the text is prose with commas.
ALIKE = 0.5

_RULE = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


class RowsOptions(SplitOptions):
    #: Rows in each section.
    rows: int = Field(default=1, ge=1, le=100_000)
    #: Whether the first row names the columns and is repeated at the top of each section. If not, it is a row like the
    #: others; the header of a Markdown table is left out.
    header: bool = True


@dataclass(frozen=True, slots=True)
class _Table:
    header: str
    #: With their line ends, and with blank lines after them.
    rows: Sequence[str]


@splitter(options=RowsOptions)
def rows(text: str, options: RowsOptions) -> list[Section]:
    """Cut after every `rows` rows: of the Markdown tables of a text if it has any, else of the text as CSV or TSV.

    A row of CSV (RFC 4180) may span several lines in quotes. Text around Markdown tables is left out; of CSV nothing is
    lost.
    """
    tables = list(_find_markdown_tables(split_lines(text), header=options.header)) or [_read_separated(text, options)]
    sections: list[Section] = []
    for number, table in enumerate(tables, 1):
        named = f"table {number}, " if len(tables) > 1 else ""
        for first in range(0, len(table.rows), options.rows):
            held = table.rows[first : first + options.rows]
            title = named + span_title("row", first + 1, first + len(held))
            # The header of a table belongs to its first section.
            repeated = len(table.header) if first else 0
            sections.append(Section(len(sections), title, table.header + "".join(held), repeated))
    if not sections:
        raise nothing_found("rows", "the tables of the document have no rows")
    return sections


def _find_markdown_tables(lines: Sequence[str], *, header: bool) -> Iterator[_Table]:
    """Yield the tables of a Markdown text (GitHub's: a header, a rule of dashes, rows up to a line without a bar)."""
    closing: re.Pattern[str] | None = None
    number = 0
    while number < len(lines):
        line = lines[number].rstrip("\r\n")
        if closing is not None:
            closing = None if closing.search(line) else closing
        elif fence := FENCE.match(line):
            closing = closing_fence(fence)
        elif "|" in line and number + 1 < len(lines) and _is_rule(lines[number + 1]):
            end = number + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            yield _Table("".join(lines[number : number + 2]) if header else "", lines[number + 2 : end])
            number = end
            continue
        number += 1


def _is_rule(line: str) -> bool:
    return "-" in line and "|" in line and _RULE.match(line.rstrip("\r\n")) is not None


def _read_separated(text: str, options: RowsOptions) -> _Table:
    """Return the text as one table of CSV or TSV, each row as it is written."""
    lines = split_lines(text)
    first = next(line for line in lines if line.strip())
    counted = Counter(first)
    delimiter = max(DELIMITERS, key=lambda sign: counted[sign])
    if not counted[delimiter]:
        raise nothing_found(
            "rows", "the document has no table: neither Markdown's, nor values parted by commas or tabs"
        )
    records: list[str] = []
    widths: list[int] = []
    # A byte order mark before a quoted name would make the quotes a part of the name.
    source = [line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(lines)]
    reader = csv.reader(source, delimiter=delimiter)
    done = 0
    try:
        for fields in reader:
            written = "".join(lines[done : reader.line_num])
            done = reader.line_num
            if records and not written.strip():
                records[-1] += written
            else:
                records.append(written)
                widths.append(len(fields))
    except csv.Error:
        remedy = "close its quotes, or double those that belong to the value"
        raise BadInput("text", f"line {done + 1} begins a row that can't be read", remedy) from None
    if not records[0].strip() and len(records) > 1:
        records[:2] = ["".join(records[:2])]
        widths.pop(0)
    if sum(width == widths[0] for width in widths) < ALIKE * len(widths) or len(records) < 1 + options.header:
        raise nothing_found("rows", "the document has no table: its lines have no common number of values")
    return _Table(records[0], records[1:]) if options.header else _Table("", records)
