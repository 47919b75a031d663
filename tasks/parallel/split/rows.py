"""A section for each row of a table, or for so many, under the table's header."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from tasks.contract.errors import BadInput
from tasks.parallel.split.registry import SplitOptions, nothing_found, splitter
from tasks.parallel.split.section import FENCE, Section, closing_fence, lines_of, spanned

__all__ = ["Rows", "rows"]

#: What may stand between the fields of a table of characters; of those that part the first line equally often, the
#: first.
DELIMITERS = "\t;,|"
#: The share of rows that have as many fields as the first, below which a text is no table: prose has commas too.
ALIKE = 0.5

_RULE = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


class Rows(SplitOptions):
    #: Rows of a section.
    rows: int = Field(default=1, ge=1, le=100_000)
    #: The first row names the columns: it is repeated at the top of each section. Without, it is a row as the others;
    #: a Markdown table's header is left out.
    header: bool = True


@dataclass(frozen=True, slots=True)
class _Table:
    header: str
    #: Each with its line end, and with blank lines after it.
    rows: Sequence[str]


@splitter(options=Rows)
def rows(text: str, options: Rows) -> list[Section]:
    """Cut after so many rows: of the Markdown tables of a text where it has any, else the text is CSV or TSV.

    A row of CSV (RFC 4180) may go over several lines in quotes. Around Markdown tables the text is left out; of CSV
    nothing is lost.
    """
    tables = list(_markdown_tables(lines_of(text), header=options.header)) or [_separated(text, options)]
    sections: list[Section] = []
    for number, table in enumerate(tables, 1):
        named = f"table {number}, " if len(tables) > 1 else ""
        for first in range(0, len(table.rows), options.rows):
            held = table.rows[first : first + options.rows]
            title = named + spanned("row", first + 1, first + len(held))
            # The header of a table belongs to its first section.
            repeated = len(table.header) if first else 0
            sections.append(Section(len(sections), title, table.header + "".join(held), repeated))
    if not sections:
        raise nothing_found("rows", "the tables of the document have no rows")
    return sections


def _markdown_tables(lines: Sequence[str], *, header: bool) -> Iterator[_Table]:
    """The tables of a Markdown text (GitHub's: a header, a rule of dashes, and rows up to the first without a bar)."""
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


def _separated(text: str, options: Rows) -> _Table:
    """The text as one table of CSV or TSV, each row as it is written."""
    lines = lines_of(text)
    first = next(line for line in lines if line.strip())
    counted = Counter(first)
    delimiter = max(DELIMITERS, key=lambda sign: counted[sign])
    if not counted[delimiter]:
        raise nothing_found(
            "rows", "the document has no table: neither Markdown's, nor values parted by commas or tabs"
        )
    records: list[str] = []
    widths: list[int] = []
    # A mark of byte order before a quoted name would make its quotes a part of it.
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
