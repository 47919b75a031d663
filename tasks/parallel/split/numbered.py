"""A section for each top-level clause of a contract or a licence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.parallel.split.clauses import CLAUSE, END, clauses, ends_body, is_blank, longest_chain
from tasks.parallel.split.cuts import at_lines, lines_of
from tasks.parallel.split.declare import splitter
from tasks.parallel.split.registry import nothing_found
from tasks.parallel.split.section import TITLE_CHARACTERS, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.parallel.split.clauses import Clause
    from tasks.parallel.split.section import Section

__all__ = ["numbered"]


@splitter()
def numbered(text: str) -> list[Section]:
    """Begin a section at each top-level clause: ``1. Definitions``, ``2) …``, ``§ 4``, ``Article V``, ``Section 6``.

    Among all lines that begin with a number the clauses are the longest ascending run that agrees in style and
    indentation, so lists inside clauses, sub-clauses (``1.1``), wrapped lines and tables of contents are left alone.
    What stands before the first clause is the section "Preamble"; an appendix, exhibit, schedule or list of references
    after the last one is a section of its own. Fewer than two clauses are none.
    """
    lines = lines_of(text)
    chain = longest_chain(list(clauses(lines)))
    if len(chain) < 2:
        raise nothing_found("numbered", "the document has no numbered clauses")
    cuts = [(_box_top(lines, clause.line), _clause_title(lines, clause)) for clause in chain]
    if after := next((line for line in range(chain[-1].line + 1, len(lines)) if ends_body(lines, line)), None):
        cuts.append((after, _appendix_title(lines, after)))
    return at_lines(lines, cuts, opening="Preamble")


def _box_top(lines: Sequence[str], line: int) -> int:
    """Find the first line of a box drawn around a clause (the Mozilla licence has two), else the clause's own."""
    top = line
    while top and is_blank(lines[top - 1]) and lines[top - 1].lstrip().startswith("*"):
        top -= 1
    return top


def _clause_title(lines: Sequence[str], clause: Clause) -> str:
    """Take the number with the words up to the first full stop or gap; from the next line when it stands alone."""
    heading = lines[clause.line].strip().lstrip("#*|>;/ \t\f").rstrip("*| \t")
    match = CLAUSE.match(heading)
    assert match is not None
    rest = match["rest"].strip(" \t*")
    label = heading[: match.start("rest")].strip()
    if not rest:
        below = next((raw.strip() for raw in lines[clause.line + 1 : clause.line + 3] if not is_blank(raw)), "")
        titled = len(below) <= TITLE_CHARACTERS and not below.endswith((".", ";", ","))
        return shorten(f"{label} {below}") if below and titled else label.rstrip(".:")
    words = re.split(r"\.(?=\s|$)|:(?=\s|$)| {3,}|\t", rest, maxsplit=1)[0]
    return shorten(f"{label} {words or rest}")


def _appendix_title(lines: Sequence[str], line: int) -> str:
    """Take the line itself, or the heading right after "END OF TERMS AND CONDITIONS", which says more."""
    following = next(
        (number for number in range(line + 1, min(line + 4, len(lines))) if not is_blank(lines[number])), line
    )
    best = following if END.match(lines[line]) and ends_body(lines, following) else line
    return shorten(re.split(r" {3,}", lines[best].strip(" \t\f\r\n#*"), maxsplit=1)[0].rstrip(".:"))
