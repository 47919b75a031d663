"""`numbered`: a section for each top-level clause of a contract or a licence."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from tasks.parallel.split.clauses import CLAUSE, END, LESSER, Clause, clauses, ends_body, is_blank, lesser_clauses
from tasks.parallel.split.registry import nothing_found, splitter
from tasks.parallel.split.section import TITLE_CHARACTERS, Section, cut_at_lines, shorten, split_lines

#: Numbered lines of a document from which it is a list rather than a contract, and takes seconds.
CANDIDATES = 100_000


@splitter()
def numbered(text: str) -> list[Section]:
    """Begin a section at each top-level clause: ``1. Definitions``, ``2) …``, ``§ 4``, ``Article V``, ``第一条``.

    Among all lines that begin with a number, the clauses are the longest ascending run with the same style and
    indentation; where there is none, the longest run of lesser numbers: ``(1)``, ``a)``, ``1.2``. A run whose numbers
    begin anew within each step of another run is below that one. So lists inside clauses, sub-clauses (``1.1``),
    wrapped lines and tables of contents begin no section, nor do years, prices and dates. Text before the first clause
    is the section "Preamble"; an appendix, exhibit, schedule or list of references after the last one is a section of
    its own. A single clause counts as none.
    """
    lines = split_lines(text)
    found, lesser = list(islice(clauses(lines), CANDIDATES)), list(islice(lesser_clauses(lines), CANDIDATES))
    if CANDIDATES in {len(found), len(lesser)}:
        raise nothing_found("numbered", f"the document has {CANDIDATES:,} numbered lines and more")
    chain = longest_chain(found)
    if not is_plausible(chain):
        chain = longest_chain(lesser)
    if not is_plausible(chain):
        raise nothing_found("numbered", "the document has no numbered clauses")
    chain = _outermost(chain, [*found, *lesser])
    cuts = [(_find_box_top(lines, clause.line), _clause_title(lines, clause)) for clause in chain]
    if after := next((line for line in range(chain[-1].line + 1, len(lines)) if ends_body(lines, line)), None):
        cuts.append((after, _appendix_title(lines, after)))
    return cut_at_lines(lines, cuts, opening="Preamble")


def is_plausible(chain: Sequence[Clause]) -> bool:
    """Whether a run is a numbering, and not two lines that begin with a number or letter by chance."""
    if len(chain) < 2:
        return False
    if all(clause.bare or clause.lesser for clause in chain) and chain[0].number > 1:
        return False
    # "A. Smith" and "B. Jones" are names.
    initials = all(clause.initial for clause in chain) and not all(clause.set_off for clause in chain)
    return not initials or len(chain) > 2


def _outermost(chain: list[Clause], candidates: Sequence[Clause]) -> list[Clause]:
    """Return the run above `chain`, or `chain` itself: numbers that begin anew in each clause count its parts."""
    by_style: dict[str, list[Clause]] = defaultdict(list)
    for clause in candidates:
        by_style[clause.style].append(clause)
    for _ in range(_LEVELS):
        first = chain[0]
        begins = [one.line for one in by_style[first.style] if one.number == first.number]
        if len(begins) < 2:
            return chain
        for style, group in by_style.items():
            if style == first.style or len(group) < 2 or group[0].line > first.line:
                continue
            above = longest_chain(group)
            ends = [clause.line for clause in above]
            within = {bisect_right(ends, line) for line in begins} - {0}
            if is_plausible(above) and above[0].line < first.line and len(within) > 1:
                chain = above
                break
        else:
            return chain
    return chain


#: Levels of numbers above a run that are looked for.
_LEVELS = 4


def _find_box_top(lines: Sequence[str], line: int) -> int:
    """Find the first line of a box drawn around a clause (the Mozilla licence has two), else the clause's own."""
    top = line
    while top and is_blank(lines[top - 1]) and lines[top - 1].lstrip().startswith("*"):
        top -= 1
    return top


def _clause_title(lines: Sequence[str], clause: Clause) -> str:
    """Take the number with the words up to the first full stop or gap; from the next line when it stands alone."""
    heading = lines[clause.line].strip().lstrip("#*|>;/ \t\f\u3000").rstrip("*| \t")
    match = LESSER.match(heading) if clause.lesser else CLAUSE.match(heading)
    assert match is not None
    rest = match["rest"].strip(" \t*")
    label = heading[: match.start("rest")].strip().replace("\\", "")
    if not rest:
        below = next((raw.strip() for raw in lines[clause.line + 1 : clause.line + 3] if not is_blank(raw)), "")
        titled = len(below) <= TITLE_CHARACTERS and not below.endswith((".", ";", ","))
        return shorten(f"{label} {below}") if below and titled else label.rstrip(".:")
    words = re.split(r"\.(?=\s|$)|[。：]|:(?=\s|$)| {3,}|\t", rest, maxsplit=1)[0]
    return shorten(f"{label}{'' if label[-1:] in _WIDE else ' '}{words or rest}")


#: Signs after a number that bring their own space.
_WIDE = frozenset("、．）")


def _appendix_title(lines: Sequence[str], line: int) -> str:
    """Take the line itself, or the heading right after "END OF TERMS AND CONDITIONS", which says more."""
    following = next(
        (number for number in range(line + 1, min(line + 4, len(lines))) if not is_blank(lines[number])), line
    )
    best = following if END.match(lines[line]) and ends_body(lines, following) else line
    return shorten(re.split(r" {3,}", lines[best].strip(" \t\f\r\n#*"), maxsplit=1)[0].rstrip(".:"))


#: Costs of a step between two clauses: another indentation, another style, each missing number, and an item out of the
#: middle of a list.
SHIFTED, RESTYLED, LEFT_OUT, OUT_OF_LIST = 0.4, 1.2, 1.0, 0.7
#: Cost of a step from clauses with a blank line before them to a number in the middle of a paragraph ("see clause" ends
#: one line, "4. It …" begins the next): more than the weight of a clause.
WRAPPED = 1.5
#: Most missing numbers between two clauses ("5. [deleted]" without its line).
LARGEST_GAP = 2
#: Cost of a run that begins with neither 0 nor 1: so begin some excerpts, but also many wrapped lines.
LATE_START = 1.0


@dataclass(frozen=True, slots=True)
class _Run:
    """The best run that ends with `clause`; of equal ones the one that began earlier."""

    score: float
    start: int
    clause: Clause
    before: _Run | None

    @property
    def spaced(self) -> bool:
        """Whether its last two clauses have a blank line before them, so the next should."""
        return self.before is not None and self.clause.set_off and self.before.clause.set_off

    @property
    def rank(self) -> tuple[float, int]:
        return round(self.score, 6), -self.start


def longest_chain(clauses: Sequence[Clause]) -> list[Clause]:
    """Find the run of clauses with the highest score; linear in their number.

    Dynamic programming over (number, style, indentation): for each such key only the best run is kept.
    """
    best: dict[tuple[object, ...], _Run] = {}
    winner: _Run | None = None
    last: Clause | None = None
    part = 0
    for clause in clauses:
        if clause.part != part:  # a run does not go on in the appendix
            best, last, part = {}, None, clause.part
        run = _Run(clause.weight - (LATE_START if clause.number > 1 else 0), clause.line, clause, None)
        in_list = last is not None and _continues_list(last, clause)
        for gap in range(LARGEST_GAP + 1):
            number = clause.number - 1 - gap
            for key, cost in _keys(clause, number):
                if (before := best.get(key)) is not None:
                    stolen = OUT_OF_LIST if in_list and before.clause is not last else 0
                    stolen += WRAPPED if clause.wrapped and before.spaced else 0
                    score = before.score + clause.weight - cost - gap * LEFT_OUT - stolen
                    run = max(run, _Run(score, before.start, clause, before), key=lambda known: known.rank)
        for key, _ in _keys(clause, clause.number):
            if key not in best or run.rank > best[key].rank:
                best[key] = run
        if winner is None or run.rank > winner.rank:
            winner = run
        last = clause
    chain = []
    while winner is not None:
        chain.append(winner.clause)
        winner = winner.before
    return chain[::-1]


def _continues_list(item: Clause, clause: Clause) -> bool:
    """Whether `clause` continues the list of `item`, the line with a number right before it."""
    return (item.number + 1, item.style, item.prefix) == (clause.number, clause.style, clause.prefix)


def _keys(clause: Clause, number: int) -> tuple[tuple[tuple[object, ...], float], ...]:
    """Return the keys of the runs that end with `number`, and the cost of a step from them to `clause`."""
    return (
        ((number, clause.style, clause.prefix), 0.0),
        ((number, clause.style, clause.right), 0.0),  # " 9." above "10.": aligned at the right
        ((number, clause.style), SHIFTED),
        ((number,), RESTYLED),
    )
