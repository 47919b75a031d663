"""`rows`: a section for each row of a table, or for several rows, under the table's header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field, field_validator

from tasks.contract.errors import BadInput
from tasks.parallel.split.registry import SplitOptions, nothing_found, splitter
from tasks.parallel.split.section import FENCE, Section, closing_fence, span_title, split_lines

#: Possible delimiters of a table of characters: the one that gives most rows as many values as the first row.
DELIMITERS = "\t;,|"
#: The least share of rows with as many fields as the first row: with less, the text is prose with commas.
ALIKE = 0.5
#: Lines that are read to find the delimiter.
SAMPLE = 1000
#: A cell may be as long as a job's text.
csv.field_size_limit(2**31 - 1)
#: The first line by which Excel names the delimiter; it is no row.
_NAMED = re.compile(r"\ufeff?\"?sep=(?P<sign>[^\r\n])\"?[ \t]*(?:\r\n|\r|\n)", re.IGNORECASE)

_RULE = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


class RowsOptions(SplitOptions):
    #: Rows in each section.
    rows: int = Field(default=1, ge=1, le=100_000)
    #: Whether the first row names the columns and is repeated at the top of each section. If not, it is a row like the
    #: others; the header of a Markdown table is left out.
    header: bool = True
    #: The sign between the values of CSV, instead of the one that is found.
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)

    @field_validator("delimiter")
    @classmethod
    def _parts_values(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n ':
            raise ValueError("may not be a blank, a quote or a line end")
        return value


@dataclass(frozen=True, slots=True)
class _Table:
    header: str
    #: With their line ends, and with blank lines after them.
    rows: Sequence[str]
    #: The numbers of values of those rows that have another one than most, by index.
    odd: Mapping[int, str] = field(default_factory=dict)


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
            title = named + span_title("row", first + 1, first + len(held)) + _describe_odd(table, first, len(held))
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


def _describe_odd(table: _Table, first: int, count: int) -> str:
    """Return what the title of a section says about rows with too few or too many values."""
    odd = [row for row in range(first, first + count) if row in table.odd]
    if not odd:
        return ""
    return f" ({table.odd[odd[0]]})" if count == 1 else f" (row {odd[0] + 1}: {table.odd[odd[0]]})"


def _read_separated(text: str, options: RowsOptions) -> _Table:
    """Return the text as one table of CSV or TSV, each row as it is written."""
    named = _NAMED.match(text)
    lines = split_lines(text[named.end() :] if named else text)
    # A byte order mark before a quoted name would make the quotes a part of the name.
    source = [line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(lines)]
    delimiter = options.delimiter or (named["sign"] if named else _find_delimiter(source))
    records, widths = _read_records(lines, source, delimiter, skipped=bool(named))
    if records and not records[0].strip() and len(records) > 1:
        records[:2] = ["".join(records[:2])]
        widths.pop(0)
    alike = sum(width == widths[0] for width in widths)
    if not records or alike < ALIKE * len(widths) or len(records) < 1 + options.header:
        raise nothing_found("rows", "the document has no table: its lines have no common number of values")
    if options.header:
        header, records, counts = records[0], records[1:], widths[1:]
    else:
        header, counts = "", widths
    odd = {
        row: f"{width} value{'s' * (width > 1)}, not {widths[0]}"
        for row, width in enumerate(counts)
        if width != widths[0]
    }
    return _Table(header, records, odd)


def _find_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that parts the lines alike; of several the one that does so in more of them.

    Raises:
        BadInput: if none does, or two do equally well.
    """
    shares: dict[str, float] = {}
    for sign in DELIMITERS:
        sample = [row for row in csv.reader(lines[:SAMPLE], delimiter=sign) if row]
        if sample and len(sample[0]) > 1:
            shares[sign] = sum(len(row) == len(sample[0]) for row in sample) / len(sample)
    if not shares:
        raise nothing_found(
            "rows", "the document has no table: neither Markdown's, nor values parted by commas or tabs"
        )
    best = max(shares.values())
    found = [sign for sign, share in shares.items() if share == best]
    if len(found) > 1 and best >= ALIKE:
        shown = " or ".join(map(repr, found))
        raise BadInput(
            "text",
            f"its values may be parted by {shown}",
            "name the sign in split_options.delimiter, or in a line sep=;",
        )
    return found[0]


def _read_records(
    lines: Sequence[str], source: Sequence[str], delimiter: str, *, skipped: bool
) -> tuple[list[str], list[int]]:
    """Return the rows as they are written, with the blank lines after them, and the number of values of each."""
    records: list[str] = []
    widths: list[int] = []
    begun = done = 0
    reader = csv.reader(source, delimiter=delimiter)
    try:
        for fields in reader:
            written = "".join(lines[done : reader.line_num])
            if records and not written.strip():
                records[-1] += written
            else:
                begun = done
                records.append(written)
                widths.append(len(fields))
            done = reader.line_num
        # A quote that is never closed would hold all rows up to the end.
        list(csv.reader(source[begun:], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if done < len(lines) or "unexpected end" in str(error):
            remedy = "close its quotes, or double those that belong to the value"
            raise BadInput("text", f"line {begun + 1 + skipped} begins a row that can't be read", remedy) from None
    return records, widths
