"""Lines that may begin a clause: the number, its style, and what makes the line a likely or an impossible one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: Characters of a line that the patterns of appendices and tables of contents search: headings are short, and their
#: backtracking must not meet a line of a megabyte.
LINE_CHARACTERS = 200

#: Blanks between a word and its number, or a number and its heading: typesetters use narrow and wide ones.
_GAP = r"[ \t\u00a0\u2009\u202f\u3000]"
#: A prefix of a number: indentation, then Markdown (``##``, ``**``) or the sign of a comment or box (``*``, ``//``).
_PREFIX = r"(?P<prefix>[ \t\f\u3000]*(?:(?:\#{1,6}|//+|[*|>;])[ \t]+)?\*{0,2})"
#: What laws and contracts call a clause, in the languages of most of them.
_WORDS = (
    r"section|sect?\.|article|artikel|art[íi]culo|articolo|artigo|artyku[łl]|čl[áa]nek|статья|madde|art\.|clause|"
    r"cl[áa]usula|clausola|chapter|chapitre|cap[íi]tulo|capitolo|kapitel|hoofdstuk|rozdzia[łl]|глава|abschnitt|ziffer|"
    r"paragraph|paragraf|secci[óo]n|sezione|se[çc][ãa]o|sectie|раздел|§§?"
)
#: The numbers that stand as English words: "Article One", "Section First".
_AS_WORD = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12,
}  # fmt: skip
_HAN = "〇零一二三四五六七八九十百"
CLAUSE = re.compile(
    _PREFIX
    + rf"""(?:
      (?P<word>{_WORDS}){_GAP}*
      (?P<n>\d{{1,3}}|[IVXL]+|{"|".join(sorted(_AS_WORD, key=len, reverse=True))})(?:\.(?P<within>[01])(?!\d))?
      (?:er\b|re\b|[º°ª])?
      (?P<end>\\?[.):](?!\d)|(?={_GAP}*$)|(?={_GAP}*[–—-])|(?={_GAP}+["“„«'(A-ZÀ-ÞА-Я]))
    | (?P<law>第{_GAP}?(?P<counted>[{_HAN}]+|\d{{1,3}}){_GAP}?[条條章节節编編款部篇課课]
      |제{_GAP}?(?P<korean>\d{{1,3}}){_GAP}?[조장절])
    | (?P<plain>\d{{1,3}}|[IVXL]+|[{_HAN}]{{1,4}}(?=、))(?P<stop>\\?[.)]|[．）、])(?=[ \t\u00a0\u3000*]|$|[^\W\d_])
    | (?P<major>\d{{1,3}})\.(?P<minor>[01])\.?(?={_GAP}+["“„«'(*A-ZÀ-ÞА-Я])
    | (?P<bare>\d{{1,3}})(?={_GAP}+["“„«'A-ZÀ-ÞА-Я])
    )(?P<rest>.*)$""",
    re.VERBOSE | re.IGNORECASE,
)
#: Lesser numbers, which begin clauses where no line has a greater one: (1), a), (iv), B., 1.2.3.
LESSER = re.compile(
    _PREFIX
    + rf"""(?:
      (?P<open>[(（])?{_GAP}?(?P<mark>\d{{1,3}}|[{_HAN}]{{1,4}}|[ivxl]+|[a-z])
      (?P<stop>\\?[)）]|(?<=[^\W\d_])\.(?=[ \t]))
    | (?:(?:{_WORDS}){_GAP}*)?(?P<above>\d{{1,3}}(?:\.\d{{1,3}}){{0,4}}\.)(?P<last>\d{{1,3}})\.?(?={_GAP}|$)
    )(?P<rest>.*)$""",
    re.VERBOSE | re.IGNORECASE,
)
_CAPITAL = re.compile(rf"{_GAP}*[\"“„«'(*]*[A-ZÀ-ÞА-Я]")
#: What stands after a number that counts or dates, and begins no clause: "12 EUR", "1. Januar 2024", "12 Main Street".
_COUNTS = re.compile(
    rf"""{_GAP}*(?:
      [€$£¥%°‰]
    | (?:eur|euros?|usd|us\$|dollars?|chf|gbp|pounds?|pfund|cents?|prozent|per{_GAP}?cent|uhr|o['’]clock|a\.?m\.|p\.?m\.
      |jahren?|jahr|monate?n?|tage?n?|wochen?|stunden?|minuten?|sekunden?|years?|months?|days?|weeks?|hours?|minutes?
      |mio|mrd|million(?:en)?|milliarden?|billion|st[üu]ck|personen|people|[kmg]hz|[kmgt]i?b|k?g|[ckm]?m)\b\.?
    | (?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|mai|mär|okt|dez|januar[iy]?|january|februar[iy]?|february
      |märz|march|april|juni|june|juli|july|august|september|oktober|october|november|dezember|december|janvier
      |février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre|de[ ]enero|de[ ]febrero|de[ ]marzo
      |de[ ]abril|de[ ]mayo|de[ ]junio|de[ ]julio|de[ ]agosto
      |gennaio|febbraio|marzo|aprile|maggio|giugno|luglio|agosto|settembre
      |ottobre|novembre|dicembre)\b\.?(?=,?{_GAP}+(?:\d|de\b)|{_GAP}*(?:$|[,:–—-]))
    | (?:[^\W\d_]+{_GAP}){{1,3}}(?:street|st\.|road|rd\.|avenue|ave\.|drive|boulevard)\b
    )""",
    re.VERBOSE | re.IGNORECASE,
)
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
    #: Its number is one of `lesser_clauses`.
    lesser: bool = False

    @property
    def bare(self) -> bool:
        """Whether its number has neither a word nor a sign that says what it is: it may be a price, or a version."""
        return self.style == "bare" or self.style.startswith("sub")

    @property
    def initial(self) -> bool:
        """Whether it is a letter with a full stop, as before a name."""
        return self.style.startswith(".|")


def clauses(lines: Sequence[str]) -> Iterator[Clause]:
    """Yield the lines that may begin a clause: ``1. …``, ``§ 4``, ``Article V``, ``第一条``."""
    for place in _numberable(lines):
        match = CLAUSE.match(place.text)
        if match is None:
            continue
        written = next(match[name] for name in ("n", "counted", "korean", "plain", "major", "bare") if match[name])
        number = read_number(written)
        if number is None or not _can_open_clause(match):
            continue
        word = "§" if (match["word"] or "").startswith("§") else (match["word"] or "").lower()
        kind = word or (match["law"] or "")[-1:] or ("sub" + match["minor"] if match["major"] else "")
        kind += match["within"] or ""
        roman = "roman" if written[0] in _ROMAN else ""
        style = "bare" if match["bare"] else f"{kind}|{roman}|{(match['stop'] or '').lstrip(chr(92))}"
        weight = BARE if match["bare"] else SUB if match["major"] or match["within"] else 0
        yield _clause(lines, place, style, number, (match["prefix"], len(match["prefix"]) + len(written)), weight)


def lesser_clauses(lines: Sequence[str]) -> Iterator[Clause]:
    """Yield the lines that begin with a lesser number: ``(1)``, ``a)``, ``B.``, ``(iv)``, ``1.2.3``.

    A letter that is a Roman numeral as well comes as both.
    """
    for place in _numberable(lines):
        match = LESSER.match(place.text)
        if match is None or (match["above"] and not _can_open_clause(match)):
            continue
        written = match["mark"] or match["last"]
        ends = (match["prefix"], len(match["prefix"]) + len(written))
        shape = match["above"] or f"{match['open'] or ''}{match['stop'].lstrip(chr(92))}"
        case = "upper" if written == written.upper() else "lower"
        number = read_number(written.upper())
        if number is not None:
            style = f"{shape}|{'' if written[0].isdecimal() else f'roman {case}' if written.isascii() else 'han'}"
            yield _clause(lines, place, style, number, ends, None)
        if len(written) == 1 and written.isascii() and written.isalpha():
            number = ord(written.lower()) - ord("a") + 1
            yield _clause(lines, place, f"{shape}|{case}", number, ends, None)


class _Place(NamedTuple):
    line: int
    part: int
    text: str


def _numberable(lines: Sequence[str]) -> Iterator[_Place]:
    """Yield the lines that are no row of a table of contents."""
    part = 0
    for line, raw in enumerate(lines):
        if ends_body(lines, line):
            part += 1
        if not _CONTENTS_ROW.search(raw[-LINE_CHARACTERS:]):
            yield _Place(line, part, raw.rstrip("\r\n"))


def _clause(
    lines: Sequence[str], place: _Place, style: str, number: int, ends: tuple[str, int], more: float | None
) -> Clause:
    """Make a clause; `ends`: its prefix and where its number ends; `more`: its extra weight, None for a lesser one."""
    set_off = is_set_off(lines, place.line)
    wrapped = not set_off and style != "bare" and lines[place.line - 1].rstrip()[-1:].isalnum()
    weight = 1.0 + (SET_OFF if set_off else 0) + (HAS_BODY if _has_body(lines, place.line) else 0) + (more or 0)
    return Clause(place.line, number, style, *ends, place.part, weight, set_off, wrapped, lesser=more is None)


def _can_open_clause(match: re.Match[str]) -> bool:
    """Whether the text after a number can open a clause; without a full stop it must begin with a capital letter.

    "Section 5 of this License" and "11 of the WIPO copyright treaty" are wrapped lines, "12 EUR" and "1. Januar 2024"
    count and date.
    """
    given = match.groupdict()
    rest = match["rest"]
    if not given.get("word") and not given.get("law") and _COUNTS.match(rest[:LINE_CHARACTERS]):
        return False
    if given.get("plain") and rest[:1].isalpha():
        return not rest[0].islower()  # "1.Definitions", but neither "1.x" nor "1.5"
    begun = rest.lstrip()
    if given.get("law"):
        return begun[:1] not in {"的", "规", "規", "所", "、", "，", "及", "和", "或", "至"}  # "第五条的规定" is text
    if given.get("plain") or given.get("end") or (given.get("word") and not begun[:1].isalpha()):
        return True
    return not begun if given.get("above") and not begun else _CAPITAL.match(rest) is not None


def is_set_off(lines: Sequence[str], line: int) -> bool:
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
    if len(raw) > LINE_CHARACTERS or not is_set_off(lines, line) or _CONTENTS_ROW.search(raw):
        return False
    if END.match(raw) or _REFERENCES.match(raw):
        return True
    alone = line + 1 == len(lines) or is_blank(lines[line + 1])
    return alone and _APPENDIX.match(raw) is not None


def read_number(written: str) -> int | None:
    """Return the value of digits, a Roman numeral up to 89, a Chinese one or an English word; else None."""
    if written.isdecimal():
        return int(written)
    if written[0] in _HAN:
        return _read_han(written)
    return _AS_WORD.get(written.lower()) or _read_roman(written)


def _read_roman(written: str) -> int | None:
    if not set(written) <= _ROMAN.keys():
        return None
    values = [_ROMAN[letter] for letter in written]
    total = sum(
        -value if value < following else value for value, following in zip(values, [*values[1:], 0], strict=True)
    )
    tens, ones = divmod(total, 10)
    exact = ["", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", ""][min(tens, 9)]
    return total if written == exact + ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"][ones] else None


def _read_han(written: str) -> int:
    total = digit = 0
    for sign in written:
        if sign in "十百":
            total, digit = total + (digit or 1) * (10 if sign == "十" else 100), 0
        else:
            digit = digit * 10 + "零一二三四五六七八九".find(sign) if sign not in "〇零" else digit * 10
    return total + digit
