"""What the words and signs around a number make of it: a range, a date, a time, a bound, or a denied number."""

from __future__ import annotations

import re

#: Characters around a number in which its context stands.
NEAR = 60
_MONTHS = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|(?-i:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?|januar|jänner|februar|märz|mai|juni|juli|oktober|dezember"
    r"|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre"
    r"|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre)"
)
_N = r"[-+]?[$€£]?\d[\d.,]{0,20}"
_UNIT = r"(?:\s?[%°€$£]|(?!e[-+])\s?[^\W\d_]{1,12})?"
#: A value of several numbers, or one that a number only bounds.
_COMPOUND = re.compile(
    # Times, ratios, dates.
    r"\d{1,4}:\d{1,4}(?::\d{1,4})?|\d{1,2}\s?h\s?\d{2}(?!\d)|\d{1,2}(?:[.:]\d{2})?\s?(?:[ap]\.?m\b\.?|uhr\b|o['’]clock)"
    r"|\d{1,4}-\d{1,2}-\d{1,4}|\d{1,4}/\d{1,2}/\d{1,4}|(?<![\d.])\d{1,2}\.\d{1,2}\.\d{2,4}(?![\d.])"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th|er|\.)?\s(?:of\s|de\s)?{_MONTHS}(?![a-z])(?:,?\s(?:de\s|del\s)?\d{{4}})?"
    rf"|\b{_MONTHS}\s\d{{1,2}}(?:st|nd|rd|th)?(?!\d)(?:,?\s\d{{4}})?|\b{_MONTHS}\s(?:de\s)?\d{{4}}\b"
    # Ranges and bounds.
    rf"|(?<![\w.,]){_N}{_UNIT}\s?(?:-to-|-|–|~|\bto\b|\bbis\b|\bà\b|\bhasta\b|\buntil\b)\s?{_N}(?!\d|\s?=)"
    rf"|\b(?:between|zwischen|entre)\s{_N}{_UNIT}\s(?:and|und|et|y|e)\s{_N}"
    rf"|{_N}\s?(?:±|\+/-|\+-)\s?{_N}|\d\+(?![\s\d(])|\d\+$|\d\sor\s(?:more|less|fewer|higher|lower)\b"
    r"|(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|other)\sthan|(?:mehr|weniger|größer|kleiner)\sals"
    rf"|(?:plus|moins)\s(?:de|que)|(?:más|menos|mayor|menor)\s(?:de|que))|(?<![<\w/]\w)[<>≤≥]=?)\s?{_N}",
    re.IGNORECASE,
)
#: "5 out of 7" is a share for a number, and a grade for a score.
_SHARE = re.compile(rf"{_N}\sout\sof\s{_N}", re.IGNORECASE)
#: Before a number: the text denies it.
_DENIED = re.compile(
    r"(?:\b(?:not|never|nicht|niemals|kein\w{0,2}|pas|jamais|nunca|nor|neither|formerly|previously|früher|zuvor|antes|auparavant|(?:down|up)\sfrom|instead\sof|rather\sthan|statt|anstatt"
    r"|anstelle\svon|au\slieu\sde|plutôt\sque|en\slugar\sde|en\svez\sde|no\s(?:es|son|era)|no(?=\s\S{1,20}\ssino\b))"
    r"|n['’]t|(?:^|[,;(]\s?)no|≠|!=)"
    r"(?:\s(?:be|been|equal|to|is|a|an|the|about|exactly|just|ein|eine|einen|un|une|una|of|de|d['’]|$)){0,3}"
    r"\s?[*_\"'“(]{0,3}[$€£]?$",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"\s(?:is|was|ist|war|est|es)\s(?:wrong|incorrect|false|not|falsch|faux|fausse|falso|incorrecto)\b", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?]\s|\n")


def is_compound(text: str, start: int, end: int, *, share: bool = True) -> bool:
    """Whether the number at a place is part of a date, a time, a ratio or a range, or only bounds a value.

    With `share` also of a share: "5 out of 7".
    """
    lowest = max(start - NEAR, 0)
    # A window that begins within a number would show another one.
    while lowest and not text[lowest - 1].isspace() and lowest < start:
        lowest += 1
    return any(
        found.start() < end and start < found.end()
        for pattern in (_COMPOUND, _SHARE)[: 1 + share]
        for found in pattern.finditer(text, lowest, min(end + NEAR, len(text)))
    )


def is_called_wrong(text: str, end: int) -> bool:
    """Whether the words behind a number call it wrong: "7 is wrong"."""
    return _DENIED_BEHIND.match(text, end) is not None


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether the words around a number deny it: "not 7", "instead of 7", "7 is wrong"."""
    if is_called_wrong(text, end):
        return True
    before = text[max(start - NEAR, 0) : start + 20]
    return _DENIED.search(before, 0, min(start, NEAR)) is not None


def same_sentence(text: str, start: int, end: int) -> bool:
    """Whether no sentence ends between two places."""
    return _SENTENCE_END.search(text, start, end) is None
