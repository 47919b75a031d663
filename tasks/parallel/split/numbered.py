"""`numbered`: a section for each top-level clause of a contract or a licence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.parallel.split.registry import nothing_found, splitter
from tasks.parallel.split.section import TITLE_CHARACTERS, Section, cut_at_lines, shorten, split_lines


@splitter()
def numbered(text: str) -> list[Section]:
    """Begin a section at each top-level clause: ``1. Definitions``, ``2) …``, ``§ 4``, ``Article V``, ``Section 6``.

    Among all lines that begin with a number, the clauses are the longest ascending run with the same style and
    indentation. So lists inside clauses, sub-clauses (``1.1``), wrapped lines and tables of contents begin no section.
    Text before the first clause is the section "Preamble"; an appendix, exhibit, schedule or list of references after
    the last one is a section of its own. A single clause counts as none.
    """
    lines = split_lines(text)
    chain = longest_chain(list(clauses(lines)))
    if len(chain) < 2:
        raise nothing_found("numbered", "the document has no numbered clauses")
    cuts = [(_find_box_top(lines, clause.line), _clause_title(lines, clause)) for clause in chain]
    if after := next((line for line in range(chain[-1].line + 1, len(lines)) if ends_body(lines, line)), None):
        cuts.append((after, _appendix_title(lines, after)))
    return cut_at_lines(lines, cuts, opening="Preamble")


def _find_box_top(lines: Sequence[str], line: int) -> int:
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


#: Characters of a line that the patterns of appendices and tables of contents search: headings are short, and their
#: backtracking must not meet a line of a megabyte.
LINE_CHARACTERS = 200

#: A prefix of a number: indentation, then Markdown (``##``, ``**``) or the sign of a comment or box (``*``, ``//``).
_PREFIX = r"(?P<prefix>[ \t\f]*(?:(?:\#{1,6}|//+|[*|>;])[ \t]+)?\*{0,2})"
CLAUSE = re.compile(
    _PREFIX
    + r"""(?:
      (?P<word>section|sec\.|article|art\.|clause|chapter|§)[ \t]*
      (?P<n>\d{1,3}|[IVXL]+)(?P<end>[.):](?!\d)|(?=[ \t]*$)|(?=[ \t]*[–—-])|(?=[ \t]+["“'(A-ZÀ-Þ]))
    | (?P<plain>\d{1,3}|[IVXL]+)(?P<stop>[.)])(?=[ \t*]|$)
    | (?P<major>\d{1,3})\.(?P<minor>[01])\.?(?=[ \t]+["“'(*A-ZÀ-Þ])
    | (?P<bare>\d{1,3})(?=[ \t]+["“'A-ZÀ-Þ])
    )(?P<rest>.*)$""",
    re.VERBOSE | re.IGNORECASE,
)
_CAPITAL = re.compile(r"[ \t]*[\"“'(*]*[A-ZÀ-Þ]")
_CONTENTS_ROW = re.compile(r"(?:\.[ \t]?){3,}[ \t]*\d+\s*$|(?:\t| {3,})\d{1,4}\s*$")
END = re.compile(
    r"\s*(?:\*+\s*)?(?:end of (?:the )?(?:terms|licen[cs]e|agreement|document|contract)\b.*)$", re.IGNORECASE
)
_APPENDIX = re.compile(
    r"\s*[#*]*\s*(?:(?:appendix|appendices|annex|exhibit|schedule|attachment|addendum)"
    r"(?:\s+(?:\d{1,2}|[A-Z]|[IVX]+)\b)?\s*(?:[:.–—-].*)?|how to (?:apply|use) .*)$",
    re.IGNORECASE,
)
_REFERENCES = re.compile(r"\s*[#*]*\s*(?:references|bibliography)[*:]*(?:\s{3,}.*)?\s*$", re.IGNORECASE)
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50}

#: Weights that are added to a candidate: for a blank line before it, and for text below it; less for a number without a
#: full stop, or with a sub-number (`1.1`, in a document without a line for clause 1 itself).
SET_OFF, HAS_BODY, BARE, SUB = 0.3, 0.3, -0.4, -0.3
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
class Clause:
    """A line that may begin a clause. `part` counts the appendices and the like before it."""

    line: int
    number: int
    style: str
    prefix: str
    right: int
    part: int
    weight: float
    set_off: bool
    wrapped: bool


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


def clauses(lines: Sequence[str]) -> Iterator[Clause]:
    part = 0
    for line, raw in enumerate(lines):
        if ends_body(lines, line):
            part += 1
        match = CLAUSE.match(raw.rstrip("\r\n"))
        if match is None or _CONTENTS_ROW.search(raw[-LINE_CHARACTERS:]):
            continue
        written = match["n"] or match["plain"] or match["major"] or match["bare"]
        number = int(written) if written.isdigit() else _read_roman(written)
        if number is None or not _can_open_clause(match):
            continue
        kind = (match["word"] or "").lower() or ("sub" + match["minor"] if match["major"] else "")
        style = f"{kind}|{'roman' if not written.isdigit() else ''}|{match['stop'] or ''}"
        set_off = _is_set_off(lines, line)
        wrapped = not set_off and not match["bare"] and lines[line - 1].rstrip()[-1:].isalnum()
        weight = 1.0 + (SET_OFF if set_off else 0) + (HAS_BODY if _has_body(lines, line) else 0)
        weight += BARE if match["bare"] else SUB if match["major"] else 0
        yield Clause(
            line, number, style, match["prefix"], len(match["prefix"]) + len(written), part, weight, set_off, wrapped
        )


def _can_open_clause(match: re.Match[str]) -> bool:
    """Whether the text after a number can open a clause; without a full stop it must begin with a capital letter.

    "Section 5 of this License" and "11 of the WIPO copyright treaty" are wrapped lines.
    """
    rest = match["rest"].lstrip()
    if match["plain"] or match["end"] or (match["word"] and not rest[:1].isalpha()):
        return True
    return _CAPITAL.match(rest) is not None


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


def _is_set_off(lines: Sequence[str], line: int) -> bool:
    return line == 0 or lines[line].startswith("\f") or is_blank(lines[line - 1])


def _has_body(lines: Sequence[str], line: int) -> bool:
    """Whether the next line that is not blank is text and no other clause."""
    following = next((raw for raw in lines[line + 1 : line + 4] if not is_blank(raw)), None)
    return following is not None and CLAUSE.match(following.rstrip("\r\n")) is None


def is_blank(raw: str) -> bool:
    """Whether a line has neither letter nor digit: empty, a rule, an underline, the side of a box."""
    return not any(map(str.isalnum, raw))


def ends_body(lines: Sequence[str], line: int) -> bool:
    """Whether the clauses end before this line, which heads an appendix, exhibit, list of references or the like."""
    raw = lines[line]
    if len(raw) > LINE_CHARACTERS or not _is_set_off(lines, line) or _CONTENTS_ROW.search(raw):
        return False
    if END.match(raw) or _REFERENCES.match(raw):
        return True
    alone = line + 1 == len(lines) or is_blank(lines[line + 1])
    return alone and _APPENDIX.match(raw) is not None


def _read_roman(written: str) -> int | None:
    """Return the value of a Roman numeral up to 89; None for other letters, such as "VX" or "ll"."""
    if written != written.upper():
        return None
    values = [_ROMAN[letter] for letter in written]
    total = sum(
        -value if value < following else value for value, following in zip(values, [*values[1:], 0], strict=True)
    )
    tens, ones = divmod(total, 10)
    exact = ["", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", ""][min(tens, 9)]
    return total if written == exact + ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"][ones] else None
