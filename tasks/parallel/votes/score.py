"""The one reader of scores: the grade that a text gives, never the bounds of its scale."""

from __future__ import annotations

import re
from bisect import bisect_left
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.reasoning import split_reasoning
from tasks.parallel.votes.number import HEAD, TAIL, WORDS, Number, clean, list_numbers
from tasks.parallel.votes.number_context import is_called_wrong, is_compound, is_denied

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
    rf"|[(\[{{<]\s?(?:(?:on |from |scale|range|min|skala|échelle|escala|von"
    rf"|de)[^()\[\]\d]{{0,20}})?{_N}\s?(?:to|bis|à|a"
    rf"|[-–~;,]|\.{{2,3}}|…|至|到)\s?(?:max\.? )?{_N}[^()\[\]\d]{{0,20}}[)\]}}>]"
    rf"|\b(?:from|between|von|zwischen|de|del|entre) {_N} (?:to|and|bis|und|à|et|a|y) {_N}(?=[ ,.)])"
    rf"|\b{_N}\s?(?:to|bis|à|a|[-–])\s?{_N}[- ]?(?:scale|skala|échelle|escala)\b"
    rf"|\b{_N} (?:(?:is|=|means|being|ist|est|es) )?(?:the |das |le |el )?(?:very )?(?:worst|lowest|highest|best)\b"
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
_RANGE = re.compile(r"\s?(?:vs\.?|versus|-|–|to|and|und|et|y|bis|or|oder|ou|à|至|到|或)\s?", re.IGNORECASE)
_STOPS = re.compile(r"\s?(?:[.,;:)\]\n–—-]|$|because\b|since\b|weil\b|car\b|porque\b)")
_UNIT = re.compile(r"(?:points?|stars?|punkte|分|étoiles?|estrellas)", re.IGNORECASE)
_UNIT_NEXT = re.compile(rf"\s?{_UNIT.pattern}", re.IGNORECASE)
_RATED = re.compile(rf"{_STOPS.pattern}|\s?(?:/|(?:for|to|für|à|a|pour|para|out|von|sur)\b)", re.IGNORECASE)
#: The numbers of a list.
_MARKERS = re.compile(r"^\s{0,9}(\d{1,2})[.)]\s", re.MULTILINE)
#: A score that is no longer one, or another's: "down from 9".
_FORMER = re.compile(
    rf"\b(?:(?:down|up|reduced|raised|increased|decreased|lowered|changed|coming)\sfrom|(?:was|were|previously"
    rf"|formerly"
    rf"|before|earlier|originally|initially|vorher|zuvor|bisher|früher|antes|avant|auparavant|anteriormente"
    rf"|compared\s(?:to"
    rf"|with)|unlike|instead\sof|rather\sthan|statt|au\slieu\sde|contre|frente\sa|en\slugar\sde"
    rf"|en\svez\sde"
    rf"|previous\s\w{{1,12}}\s(?:was|had|got)|last\stime))\s?[:=]?\s?(?:an?\s|the\s|un\s|eine\s|une\s)?{_N}",
    re.IGNORECASE,
)
#: The announcement of a number that its clause denies: "I would not give it an 8".
_REFUSED = re.compile(
    r"(?:\b(?:not|never|cannot|hardly|nicht|kein\w{0,2}|jamais|nunca|no\s(?:le\s)?(?:es|doy|daría|merece))"
    r"|n['’]t|\bn['’e]\s?\w{1,14}\spas)"
    r"(?:\s(?!but\b|because\b|so\b|sondern\b|mais\b|sino\b|pero\b|and\b)[^\W\d][\w'’]{0,15}){0,4}\s?[\s*\"'“(]{0,3}$",
    re.IGNORECASE,
)
#: The name of one of several things with scores.
_LABEL = re.compile(
    r"\b(?:answer|response|reply|text|candidate|option|model|version|antwort|kandidat|réponse|candidat"
    r"|respuesta|candidato)"
    r"\s(?:no\.\s?|#)?\d{1,2}(?=\s?[:=(]|\s(?:is|gets|has|deserves|scores|bekommt|ist|est|es|merece)\b)",
    re.IGNORECASE,
)
#: Between the scores of two things: "the first answer 3 and the second 9".
_BESIDE = re.compile(
    r"(?:\s?(?!(?:because|since|with|has|have|had|as|weil|mit|car|porque|avec|con|there|from"
    r"|than)\b)[^\W\d][\w'’-]{0,15}){0,5}\s?"
    r"(?:[,;.]|(?:[,;]\s)?\b(?:and|but|while|und|aber|et|mais|y|pero))"
    r"(?:\s(?!(?:because|since|with|has|have|had|as|so|thus|therefore|overall|final\w*|total|weil|mit|car"
    r"|porque|avec|con|there"
    r"|from|out|daher|donc|also|hence|insgesamt)\b)[^\W\d][\w'’-]{0,15}){0,6}\s{0,40}[:=]?\s?",
    re.IGNORECASE,
)
#: "A: 8", and the next line "B: 6".
_BESIDE_LINES = re.compile(rf"{_BESIDE.pattern}|\n[^\W\d][\w'’ -]{{0,40}}:\s?", re.IGNORECASE)
_GRADES = sorted((word for word, value in WORDS.items() if value <= 10), key=len, reverse=True)
_NUMBER_WORD = re.compile(rf"(?<![\w-])(?:{'|'.join(_GRADES)})(?![\w-])", re.IGNORECASE)
#: What may stand around a score that is a word alone.
_ALONE = re.compile(r"\W*(?:(?:an?|solid|strong|weak|perfect|eine?|une?)\s){0,3}\Z", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
#: What a match of the patterns holds, so that they are tried nowhere else.
_SCALE_HINTS = (
    "(", "[", "{", "<", "scale", "skala", "échelle", "escala", "range", "rating system", "from", "between", "von",
    "zwischen", "de ", "del ", "entre", "max", "highest", "best", "where", "wobei", "min", "lowest", "worst", "分",
)  # fmt: skip
_FORMER_HINTS = (
    "down", "up ", "up\n", "reduced", "raised", "creased", "lowered", "changed", "coming", "was", "were", "previous",
    "formerly", "before", "earlier", "originally", "initially", "vorher", "zuvor", "bisher", "früher", "antes", "avant",
    "auparavant",
    "anteriormente", "compared", "unlike", "instead", "rather", "statt", "au", "contre", "frente", "en", "last",
)  # fmt: skip
_LABEL_HINTS = (
    "answer", "response", "reply", "text", "candidat", "option", "model", "version", "antwort", "kandidat", "réponse",
    "respuesta",
)  # fmt: skip
#: What is blanked out before scores are looked for: patterns, their hints, and the characters before a hint.
_BLANKED = ((_SCALES, _SCALE_HINTS, 40), (_FORMER, _FORMER_HINTS, 1), (_LABEL, _LABEL_HINTS, 1))
_CUE_HINTS = (
    "overall", "score", "rating", "grade", "mark", "note", "bewertung", "punktzahl", "wertung", "notation",
    "puntuación",
    "calificación", "nota", "分", "give", "giving", "gave", "rate", "scor", "assign", "award", "deserve", "merit",
    "earn",
    "get", "vergebe", "gebe", "bewerte", "donne", "doy", "给", "打", "<answer>", "[[", "[ [",
)  # fmt: skip
_REFUSE_HINTS = (
    "no", "n't", "n’t", "never", "cannot", "hardly", "neither", "nicht", "nie", "kein", "pas", "jamais", "nunca",
    "instead", "rather", "statt", "anstelle", "au lieu", "plut", "en ", "formerly", "previously", "früher",
    "zuvor", "antes",
    "auparavant", "down", "up", "≠", "!=",
)  # fmt: skip
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
    for pattern, hints, before in _BLANKED:
        text = _blank_out(text, pattern, hints, before)
    if not any(character.isdigit() for character in text):
        text = _NUMBER_WORD.sub(_as_digits, text)
    numbers = list_numbers(text, cleaned=True)
    if not numbers:
        stars = _STARS.findall(text)
        return _within(Fraction(len(stars[0])), bounds) if len(stars) == 1 else None
    denials = _places_of(text, _REFUSE_HINTS)
    scored = [
        one
        for one in _scores(text, numbers)
        if not is_called_wrong(text, one.end) and not (_is_near(denials, one.start) and _is_refused(text, one))
    ]
    if not scored:
        return None
    cues = _places_of(text, _CUE_HINTS)
    announced = [one for one in scored if _is_near(cues, one.start) and _is_announced(text, one)]
    chosen = _announced_one(text, announced) if announced else _unannounced(text, scored)
    if take == "first":
        chosen = scored[0]
    return None if chosen is None else _value_of(text, chosen, scored, bounds)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def _places_of(text: str, hints: tuple[str, ...]) -> list[int] | None:
    """Return where the hints stand, in order; None where small letters have another length.

    By substrings: that takes a hundredth of the time of a pattern of so many words.
    """
    lowered = text.lower()
    if len(lowered) != len(text):
        return None
    places = []
    for hint in hints:
        place = lowered.find(hint)
        while place >= 0:
            places.append(place)
            place = lowered.find(hint, place + 1)
    return sorted(places)


def _blank_out(text: str, pattern: re.Pattern[str], hints: tuple[str, ...], before: int) -> str:
    """Blank out what a pattern matches; it is tried near its hints alone, where a digit is near too."""
    places = _places_of(text, hints)
    if places is None:
        return pattern.sub(_blank, text)
    pieces: list[str] = []
    done = 0
    start = end = -1
    windows: list[tuple[int, int]] = []
    for place in places:
        if not _DIGIT.search(text, max(place - before, 0), place + 80):
            continue
        if place - before <= end:
            end = max(end, place + 110)
            continue
        if end >= 0:
            windows.append((start, end))
        start, end = max(place - before, 0), place + 110
    if end >= 0:
        windows.append((start, end))
    for start, end in windows:
        for match in pattern.finditer(text, max(start, done), min(end, len(text))):
            pieces += (text[done : match.start()], _blank(match))
            done = match.end()
    return "".join((*pieces, text[done:])) if pieces else text


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


def _as_digits(match: re.Match[str]) -> str:
    """Return the digits of a number word that can be a score: "a solid eight", "I give it an eight."."""
    text, digits = match.string, str(WORDS[match[0].casefold()])
    before = text[max(match.start() - 60, 0) : match.start()]
    behind = text[match.end() : match.end() + 30]
    stops = _STOPS.match(behind) is not None
    scaled = re.match(
        r"\s(?:out of|of|von|sur|de|auf)\s(?:\d|ten|zehn|dix|diez|five|fünf|cinq|cinco)", behind
    ) or re.search(r"\d\s(?:out of|of|von|sur|de|auf)\s$|(?:out of|von|sur)\s$", before)
    if scaled or (stops and (_CUE.search(before) or _ALONE.match(text[: match.start()]))):
        return digits
    return match[0]


def _is_refused(text: str, number: Number) -> bool:
    before = text[max(number.start - 60, 0) : number.start]
    return is_denied(text, number.start, number.end) or _REFUSED.search(before) is not None


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


def _is_near(cues: list[int] | None, place: int) -> bool:
    """Whether a cue stands in the characters before a place in which it is looked for."""
    return cues is None or bisect_left(cues, place) > bisect_left(cues, place - 70)


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
    if _is_one_of_several(text, chosen, scored, bounds):
        return None
    of = _OF.match(text, chosen.end)
    scale = chosen.under if chosen.under is not None else Fraction(of[1].replace(",", ".")) if of else None
    most = bounds[1]
    if most is not None and scale is not None and scale != Fraction(str(most)):
        return None
    return _within(chosen.over, bounds)


def _is_one_of_several(
    text: str, chosen: Number, scored: list[Number], bounds: tuple[float | None, float | None]
) -> bool:
    """Whether another score stands beside a score that is not the overall one, or the score only bounds a value."""
    if is_compound(text, chosen.match.start("digits"), chosen.match.end("digits"), share=False):
        return True
    if _OVERALL.search(_clause_around(text, chosen)):
        return False
    place = scored.index(chosen)
    beside = _BESIDE if _is_announced(text, chosen) else _BESIDE_LINES
    return any(
        one.over != other.over
        and _within(one.over, bounds) is not None
        and _within(other.over, bounds) is not None
        and beside.fullmatch(text, one.end, other.start) is not None
        and (_RATED.match(text, other.end) or (_UNIT_NEXT.match(text, one.end) and _UNIT_NEXT.match(text, other.end)))
        for one, other in pairwise(scored[max(place - 1, 0) : place + 2])
    )


def _within(value: Fraction | None, bounds: tuple[float | None, float | None]) -> float | None:
    least, most = bounds
    if (
        value is None
        or (least is not None and value < Fraction(str(least)))
        or (most is not None and value > Fraction(str(most)))
    ):
        return None
    return float(value)
