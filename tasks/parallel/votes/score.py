"""The one reader of scores: the grade that a text gives, never the bounds of its scale."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.reasoning import split_reasoning
from tasks.parallel.votes.number import HEAD, TAIL, Number, clean, list_numbers

#: Keys of a JSON answer that hold its score, the likeliest first.
KEYS = (
    "overall_score",
    "final_score",
    "overall",
    "total_score",
    "score",
    "rating",
    "grade",
    "note",
    "bewertung",
    "punktzahl",
    "评分",
    "得分",
)
_N = r"[-+]?\d{1,6}(?:[.,]\d{1,6})?"
#: The bounds of a scale. They are blanked out before the score is looked for.
_SCALES = re.compile(
    rf"\b(?:on|using|in|auf|sur|en|with)?\s?(?:a|the|an|einer|une|una|der"
    rf"|la)?\s?(?:(?:\d{{1,3}}[- ]?point )?(?:scale|skala|échelle|escala|range)|rating system)"
    rf"\s?(?:of|from|goes|is|=|:|von|de|del|between|ranging)?\s?(?:from |of )?[(\[]?{_N}\s?(?:to|bis|à|a|and|und|et"
    rf"|y|through|[-/~]|至|到|out of)\s?{_N}[)\]]?"
    rf"|[(\[]\s?(?:(?:on |from |scale|range|skala|échelle|escala|von|de)[^()\[\]\d]{{0,20}})?{_N}\s?(?:to|bis|à|a"
    rf"|[-~]|至|到)\s?{_N}[^()\[\]\d]{{0,20}}[)\]]"
    rf"|\b(?:from|between|von|zwischen|de|del|entre) {_N} (?:to|and|bis|und|à|et|a|y) {_N}(?=[ ,.)])"
    rf"|\bscale of {_N}\b|\b{_N}[- ]point scale|\b(?:max(?:imum|\.)?|highest|best|where|wobei|minimum|min\.?|lowest"
    rf"|worst)(?: possible| score)?(?: score)?\s?(?:of|is|=|:)?\s?{_N}(?:\s?(?:is|=|means|being|ist)\s?[a-z]+)?"
    rf"|{_N}\s?(?:到|至|-|~)\s?{_N}\s?分(?:制|的)?|满分\s?{_N}\s?分?",
    re.IGNORECASE,
)
#: The scale behind a score: "7/10", "7 out of 10", "7 von 10".
_OF = re.compile(
    rf"\s?(?:points?|punkte?n?|stars?|★|⭐)?\s?(?:/|\bout of\b|\bof\b|\bvon\b|\bsur\b|\bde\b"
    rf"|\bauf\b)\s?(?:a possible |a total of |maximum |max |insgesamt )?({_N})",
    re.IGNORECASE,
)
_NOUN = (
    r"(?:overall|score|rating|grade|mark|note|bewertung|punktzahl|gesamtnote|wertung|notation|puntuación"
    r"|calificación|nota"
    r"|评分|得分|分数|打分|总分)"
)
_CUE = re.compile(
    rf"(?:(?:\b|(?<=[\u4e00-\u9fff])){_NOUN}s?(?:\s(?!is\b)[^\W\d][\w'’]{{0,15}}){{0,4}}?[*\"'’\s]*"
    r"(?:is|of|=|:|：|ist|est|es|是|为|->)[\s*\"'\[(<]*(?:a |an |about |around |roughly )?"
    r"|\b(?:give|gives|giving|gave|rate|rated|score|scored|grade|assign|award|awarded|deserves?|merits?|earns?|gets?"
    r"|vergebe|gebe|bewerte|donne|doy|le doy)"
    r"(?:\s[^\W\d][\w'’]{0,20}){0,4}?(?:\s(?:a|an|as|at|with|mit|un|une|eine?n?|score of|rating of|grade of|the))?"
    r"[\s*:\"'\[]*|给(?:它|他|她)?\s?|打\s?|<(?:score|rating|grade|answer)>\s?|\[\[\s?)\Z",
    re.IGNORECASE,
)
_OVERALL = re.compile(
    r"\b(?:overall|final|total|gesamt\w*|insgesamt|globale?|finale?|in sum)\b|总|综合|最终", re.IGNORECASE
)
_RANGE = re.compile(r"\s?(?:-|–|to|and|und|et|y|bis|or|oder|ou|à|至|到|或)\s?", re.IGNORECASE)
_STOPS = re.compile(r"\s?(?:[.,;:)\]\n–—-]|$|because\b|since\b|weil\b|car\b|porque\b)")
_UNIT = re.compile(r"(?:points?|stars?|punkte|分|étoiles?|estrellas)", re.IGNORECASE)
#: The numbers of a list.
_MARKERS = re.compile(r"^\s{0,9}(\d{1,2})[.)]\s", re.MULTILINE)
_STARS = re.compile(r"[★⭐]+")


def read_score(
    text: str, *, least: float | None = None, most: float | None = None, take: Literal["last", "first"] = "last"
) -> float | None:
    """Return the score of a text within its bounds; None where there is none, or an ambiguous one.

    A score that the text announces ("Score: 7", "I give it an 8") counts before others; among several an overall one.
    Scales ("7/10", "on a scale of 1 to 10") are no scores, and a score on another scale than `most` is none. With
    several numbers and no announcement, `take` names the one; the last must end the text, or the first begin it. Pure.
    """
    _, text = split_reasoning(text)
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + "\n" + text[-TAIL:]
    bounds = (least, most)
    if (found := _read_json(text)) is not None:
        return _within(found, bounds)
    text = clean(text)
    if len({marker[1] for marker in _MARKERS.finditer(text)} & {"1", "2"}) == 2:
        text = _MARKERS.sub(_blank, text)
    text = _SCALES.sub(_blank, text)
    numbers = list_numbers(text, cleaned=True)
    if not numbers:
        stars = _STARS.findall(text)
        return _within(Fraction(len(stars[0])), bounds) if len(stars) == 1 else None
    scored = _scores(text, numbers)
    if not scored:
        return None
    announced = [one for one in scored if _is_announced(text, one)]
    chosen = _announced_one(text, announced) if announced else _unannounced(text, scored)
    if take == "first":
        chosen = scored[0]
    return None if chosen is None else _value_of(text, chosen, scored, bounds)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def _read_json(text: str) -> Fraction | None:
    if "{" not in text:
        return None
    try:
        value = parse_answer(text)
    except NotJSON:
        return None
    if not isinstance(value, dict):
        return None
    lowered = {str(key).casefold(): inner for key, inner in value.items()}
    numbers = [inner for inner in lowered.values() if _is_number(inner)]
    named = next((lowered[key] for key in KEYS if key in lowered), numbers[0] if len(numbers) == 1 else None)
    if isinstance(named, str):
        found = list_numbers(named)
        return found[0].over if len(found) == 1 else None
    return Fraction(str(named)) if _is_number(named) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _scores(text: str, numbers: list[Number]) -> list[Number]:
    """Return the numbers that are no scale of the number before them."""
    scored: list[Number] = []
    end = -1
    for number in numbers:
        if number.start < end:
            continue
        scored.append(number)
        scale = _OF.match(text, number.end)
        end = scale.end() if scale else number.end
    return scored


def _is_announced(text: str, number: Number) -> bool:
    before = text[max(number.start - 60, 0) : number.start]
    return _CUE.search(before) is not None


def _announced_one(text: str, announced: list[Number]) -> Number | None:
    """Return the overall one of several announced scores, else the only value; None where they differ."""
    overall = [one for one in announced if _OVERALL.search(_clause_around(text, one))]
    left = overall[-1:] or announced
    return left[0] if len({one.over for one in left}) == 1 else None


def _clause_around(text: str, number: Number) -> str:
    before = re.split(r"[.;]\s|\n", text[max(number.start - 60, 0) : number.start])[-1]
    return before + " " + re.split(r"[.;,]\s|\n", text[number.end : number.end + 30])[0]


def _unannounced(text: str, scored: list[Number]) -> Number | None:
    """Return the only value, the only one with a scale, or the one that begins or ends the text; None for both."""
    if len({one.over for one in scored}) == 1:
        return scored[0]
    scaled = [one for one in scored if one.under is not None or _OF.match(text, one.end)]
    if scaled:
        return _announced_one(text, scaled)
    begins = not text[: scored[0].start].strip(" *_([\"'\n`#") and _STOPS.match(text, scored[0].end) is not None
    tail = text[scored[-1].end :].strip(" .!*_)]\"'\n`★⭐")
    ends = not tail or (_UNIT.fullmatch(tail) is not None and not begins)
    return None if begins == ends else scored[0] if begins else scored[-1]


def _value_of(
    text: str, chosen: Number, scored: list[Number], bounds: tuple[float | None, float | None]
) -> float | None:
    """Return the value of the chosen number; None on another scale, and for one end of a range."""
    place = scored.index(chosen)
    for one, other in pairwise(scored[max(place - 1, 0) : place + 2]):
        if _RANGE.fullmatch(text, one.end, other.start) and one.over != other.over:
            return None
    of = _OF.match(text, chosen.end)
    scale = chosen.under if chosen.under is not None else Fraction(of[1].replace(",", ".")) if of else None
    most = bounds[1]
    if most is not None and scale is not None and scale != Fraction(str(most)):
        return None
    return _within(chosen.over, bounds)


def _within(value: Fraction | None, bounds: tuple[float | None, float | None]) -> float | None:
    least, most = bounds
    if (
        value is None
        or (least is not None and value < Fraction(str(least)))
        or (most is not None and value > Fraction(str(most)))
    ):
        return None
    return float(value)
