r"""The one reader of numbers: which number a text concludes, exactly.

A comma before exactly three digits groups thousands, unless the number begins with 0; any other single comma is a
decimal one. A point starts decimals; before exactly three digits it groups thousands where the text writes decimal
commas or the number is an amount in euros, and where the text is German, French or Spanish otherwise the number is
ambiguous. Blanks, apostrophes and underscores group thousands; groups of two before the last are Indian.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tasks.contract.reasoning import split_reasoning
from tasks.parallel.votes.latex import unwrap_latex
from tasks.parallel.votes.number_context import is_compound, is_denied, same_sentence

#: Characters of the longest number; a longer run of digits is an identifier, or hostile.
MAX_NUMBER = 40
#: The highest exponent of ten, either way.
MAX_EXPONENT = 60
#: The highest base of a power.
MAX_BASE = 1000
#: Characters that are read of a longer text: its beginning and its end.
HEAD, TAIL = 4_000, 16_000
_SIGNS = str.maketrans(
    "０１２３４５６７８９．，－＋％／−‒–⁄\u00a0\u2009\u202f\u2007", "0123456789.,-+%/---/\u2009\u2009\u2009\u2009"
)
_HALVES = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅕": "1/5", "⅛": "1/8"}
_HALF = re.compile(rf"(\d?)\s?([{''.join(_HALVES)}])")
_LETTER = "a-zA-ZÀ-ɏ"
_CURRENCY = r"[$€£¥₹₽₩]|US\$|USD|EUR|GBP|CHF|Rs\.?|R\$"
_DIGITS = (
    r"\d{1,3}(?:\u2009\d{3})+(?!\d)(?:[.,]\d+)?|\d{1,3}(?:[ ]\d{3})+(?!\d)(?:[.,]\d+)?"
    r"|\d{1,3}(?:['’_]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*"
)
_NUMBER = re.compile(
    rf"(?<![{_LETTER}\d_.,^/])(?P<sign>(?:(?<![\w)\]%])[-+]\s?)?)(?P<currency>(?:{_CURRENCY})\s?)?(?P<sign2>[-+]?)"
    rf"(?P<digits>(?:{_DIGITS})|\.\d+)(?P<exponent>[eE][-+]?\d{{1,4}}(?!\w))?"
    r"(?P<power>\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?(?P<ten>[-+]?\d{1,3})\}?)?"
    r"(?:\s?(?P<slash>/)\s?(?P<under>\d{1,20}(?:\.\d{1,20})?)(?![\w/]|\s?/\s?\d|[.,]\d)"
    r"|[ ](?P<over2>\d{1,9})/(?P<under2>\d{1,9})(?![\w/]))?"
    r"(?P<unit>\s?(?:[%‰°€$£¥₹]|(?:thousand|million|billion|trillion|mn|bn|k|K|tausend|Mio\.?|Million(?:en)?|Mrd\.?"
    r"|Milliarden?|millones|millions?|milliards?|万|亿|千)(?!\w)))?"
)  # fmt: skip
_TIMES = {
    "k": 3, "thousand": 3, "tausend": 3, "千": 3, "万": 4, "million": 6, "millions": 6, "millionen": 6, "millones": 6,
    "mio": 6, "mn": 6, "亿": 8, "billion": 9, "bn": 9, "milliarde": 9, "milliarden": 9, "milliard": 9, "milliards": 9,
    "mrd": 9, "trillion": 12,
}  # fmt: skip
_GROUPED_COMMA = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}")
_GROUPED_POINT = re.compile(r"\d{1,3}(?:\.\d{3})+")
_GROUP_SIGN = re.compile(r"[ \u2009'’_]")
#: "1,2,3".
_LIST = re.compile(r"\d+(?:,\d+)+")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})*,\d{1,2}(?![\d,])")
_CONTINENTAL = re.compile(
    r"\b(?:ist|und|der|die|das|ergibt|insgesamt|beträgt|antwort|est|les|donc|réponse|soit|la|el|los|respuesta|son"
    r"|por)\b",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_ANNOUNCED = re.compile(
    r"(?:\b(?:answer|result|solution|total|conclusion|antwort|ergebnis|lösung|réponse|résultat|respuesta|resultado"
    r"|solución)\b"
    r"(?:\s(?!(?:is|ist|est|es)\b)[\w'’]{1,20}){0,6}?\s?"
    r"(?:(?:is|are|was|would be|should be|equals|lautet|ist|beträgt|est|es)\b|=|:|：)"
    r"|(?:答案|结果)(?:应该)?(?:是|为|：|:)|<(?:answer|final_answer|result)>)"
    r"[\s*_\"'“(\[$=:：≈~]{0,6}(?:(?:therefore|thus|simply|exactly|approximately|about|around|also|etwa|ungefähr|environ|donc"
    r"|aproximadamente|roughly|equal to|约|a total of|just|only|\w{1,12} =|the number|genau)[\s*_\"'“(\[$=]{1,4}){0,3}",
    re.IGNORECASE,
)
_NOUNS = ("answer", "result", "solution", "total", "conclusion", "antwort", "ergebnis", "lösung", "réponse", "résultat",
          "respuesta", "resultado", "solución", "答案", "结果")  # fmt: skip
#: Characters around a number in which another may stand beside it.
_NEAR = 40
#: A number goes on as an expression, or ends a product or a sum.
_GOES_ON = re.compile(r"\s?(?:[a-zA-Z]{0,12}\s)?(?:[×x*·÷+]|\\times|\\cdot|\s-)\s?[$€£(]?\d|\s?=\s?[$€£(-]?\d")
_OPERATOR = re.compile(r"\d\s?(?:[×*·÷+]|x)\s?[$€£]?$")
#: "2024-05-06", a telephone number.
_IDENTIFIER = re.compile(r"\d-\d+-$")
_POWER = re.compile(r"(?:\^|\*\*)\s?\{?(\d{1,3})\}?")
_EQUALS = re.compile(r"=\s?")
_OR = re.compile(
    r"\s(?:or|oder|ou|o|或)\s(?:maybe\s|perhaps\s)?$|,\s(?:maybe|perhaps|possibly|vielleicht|peut-être|quizás?)\s$|或者?$",
    re.IGNORECASE,
)
_CITATION = re.compile(r"\[\d{1,3}(?:[,–-]\s?\d{1,3})*\]")
#: Small numbers in words.
WORDS = {
    word: value
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve",
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "zéro un deux trois quatre cinq six sept huit neuf dix onze douze",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "零 一 二 三 四 五 六 七 八 九 十",
    )
    for value, word in enumerate(words.split())
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text, read where its value is asked for."""

    match: re.Match[str]

    @property
    def start(self) -> int:
        return self.match.start()

    @property
    def end(self) -> int:
        return self.match.end()

    @property
    def value(self) -> Fraction | None:
        """The value; None where it is ambiguous."""
        value = self.over
        if value is None:
            return None
        if self.match["slash"]:
            under = Fraction(self.match["under"])
            return value / under if under else None
        if self.match["over2"]:
            part = int(self.match["under2"]) and Fraction(int(self.match["over2"]), int(self.match["under2"]))
            return (value - part if value < 0 else value + part) if part else None
        return value

    @property
    def over(self) -> Fraction | None:
        """The value before a slash."""
        return _value(self.match)

    @property
    def under(self) -> Fraction | None:
        """The number behind a slash: the scale of "7/10"."""
        return Fraction(self.match["under"]) if self.match["slash"] else None


def read_number(text: str) -> Fraction | None:
    r"""Return the number that a text concludes; None where there is none, or an ambiguous one.

    What follows the last ``####``, else what stands in the last ``\boxed{…}``, else behind the last "the answer is",
    else the last number; a number to twelve in words where there are no digits. A fraction is a number, a percent sign
    says nothing. Pure; reads at most `HEAD` + `TAIL` characters.
    """
    _, text = split_reasoning(text)
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + "\n" + text[-TAIL:]
    marked = text.rpartition("####")
    if marked[1] and (found := list_numbers(marked[2])):
        return _single(found[0])
    boxed = None
    for boxed in _BOXED.finditer(text):  # noqa: B007 - the last one
        pass
    if boxed is not None and (found := list_numbers(text[boxed.start() : _end_of_braces(text, boxed.end() - 1)])):
        return _single(found[-1])
    text = clean(text)
    last = _announced_match(text) or _last_match(text)
    if last is None:
        return _read_words(text)
    last = _result(text, _before_denied(text, last))
    if last is None or is_compound(text, last.start("digits"), last.end("digits")):
        return None
    for one, other in pairwise(_NUMBER.finditer(text, max(last.start() - _NEAR, 0), last.end() + _NEAR)):
        # "either 5 or 6"
        if last.start() in {one.start(), other.start()} and _is_or(text, Number(one), Number(other)):
            return None
    return _raised(text, last)


def _single(number: Number) -> Fraction | None:
    """Return the value of a number that is no part of a range, a date or a time."""
    match = number.match
    return None if is_compound(match.string, match.start("digits"), match.end("digits")) else number.value


def _before_denied(text: str, match: re.Match[str]) -> re.Match[str] | None:
    """Return the number, or where the text denies it ("5, not 7") the one before it in its sentence."""
    if not is_denied(text, match.start(), match.end()):
        return match
    lowest = max(match.start() - 200, 0)
    for other in reversed(list(_NUMBER.finditer(text, lowest, match.start()))):
        if not same_sentence(text, other.end(), match.start()):
            return None
        if not is_denied(text, other.start(), other.end()):
            return other
    return None


def _raised(text: str, match: re.Match[str]) -> Fraction | None:
    """Return the value of a number with the power behind it ("10^6")."""
    power = _POWER.match(text, match.end())
    value = Number(match).value
    if power is None or value is None:
        return value
    exponent = int(power[1])
    return value**exponent if exponent <= MAX_EXPONENT and abs(value) <= MAX_BASE else None


def _result(text: str, match: re.Match[str] | None) -> re.Match[str] | None:
    """Return the result of the expression that a number begins ("48/2 = 24"), the number itself outside of one.

    None where a product or a sum has no result.
    """
    if match is None:
        return None
    before = text[max(match.start() - 4, 0) : match.start()]
    line = text.find("\n", match.end())
    end = min(len(text) if line < 0 else line, match.end() + 200)
    if not _GOES_ON.match(text, match.end()):
        return (
            None
            if _OPERATOR.search(before) or _IDENTIFIER.search(text[max(match.start() - 20, 0) : match.start()])
            else match
        )
    results = [
        found for equals in _EQUALS.finditer(text, match.end(), end) if (found := _NUMBER.match(text, equals.end()))
    ]
    return results[-1] if results else None


def _announced_match(text: str) -> re.Match[str] | None:
    """Return the number behind the last announcement of one."""
    lowered = text.lower()
    if len(lowered) != len(text):
        return None
    last = None
    # Substrings first: this runs for each vote, and a pattern of so many words takes longer.
    for noun in _NOUNS:
        place = lowered.find(noun)
        while place >= 0:
            cue = _ANNOUNCED.match(text, place - (text[place - 1 : place] == "<"))
            found = _NUMBER.match(text, cue.end()) if cue else None
            if found and (last is None or found.start() > last.start()):
                last = found
            place = lowered.find(noun, place + 1)
    return last


def _last_match(text: str) -> re.Match[str] | None:
    """Return the last number of a text; looks at its end first."""
    for size in (200, 2_000, len(text)):
        found = list(_NUMBER.finditer(text, max(len(text) - size, 0)))
        if found:
            return found[-1]
    return None


def write_number(value: Fraction) -> str:
    """Write a number: in digits where it has an end ("0.75", "1200000"), else as a fraction in lowest terms."""
    scaled = value.denominator
    twos = fives = 0
    while scaled % 2 == 0:
        scaled, twos = scaled // 2, twos + 1
    while scaled % 5 == 0:
        scaled, fives = scaled // 5, fives + 1
    if scaled != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits


def clean(text: str) -> str:
    """Return a text with plain digits, signs and blanks, and without LaTeX, emphasis and references."""
    if not text.isascii():
        text = _HALF.sub(_write_half, text).translate(_SIGNS)
    text = unwrap_latex(text).replace("{,}", ",").replace("**", "").replace("`", "")
    if "[" not in text:
        return text
    without = _CITATION.sub("", text)
    return without if any(character.isdigit() for character in without) else text


def _write_half(match: re.Match[str]) -> str:
    return f"{match[1]} {_HALVES[match[2]]}" if match[1] else _HALVES[match[2]]


def list_numbers(text: str, *, cleaned: bool = False) -> list[Number]:
    """Return the numbers of a text in their order."""
    return [Number(match) for match in _NUMBER.finditer(text if cleaned else clean(text))]


def _value(match: re.Match[str]) -> Fraction | None:
    digits = match["digits"]
    if len(match.group()) > 2 * MAX_NUMBER or len(digits) > MAX_NUMBER:
        return None
    if digits.count(",") > 1 and _LIST.fullmatch(digits) and not _GROUPED_COMMA.fullmatch(digits):
        digits = digits.rpartition(",")[2]
    behind = match.string[match.end() : match.end() + 5].lstrip()
    euro = "€" in match.group() or "EUR" in match.group() or behind.startswith(("€", "EUR", "Euro", "euro"))
    plain = _plain_digits(digits, match.string, euro=euro)
    exponent = int((match["exponent"] or "e0")[1:]) + int(match["ten"] or 0)
    exponent += _TIMES.get((match["unit"] or "").strip(" .").casefold(), 0)
    if plain is None or abs(exponent) > MAX_EXPONENT:
        return None
    value = Fraction(plain) * Fraction(10) ** exponent
    return -value if "-" in match["sign"] + match["sign2"] else value


def _plain_digits(digits: str, text: str, *, euro: bool) -> str | None:
    """Return digits with a decimal point alone; None where their text does not say what a sign in them means."""
    if _GROUP_SIGN.search(digits):
        # "101 102 103" are three numbers, "12 345" is one.
        apart = " " in digits and len(digits.partition(" ")[0]) > 2
        return None if apart else _GROUP_SIGN.sub("", digits).replace(",", ".")
    points, signs = digits.count("."), digits.count(",")
    if points and signs:
        whole, decimal, fraction = digits.rpartition("." if digits.rfind(".") > digits.rfind(",") else ",")
        fits = (_GROUPED_COMMA if decimal == "." else _GROUPED_POINT).fullmatch(whole) or whole.isdigit()
        return f"{re.sub('[.,]', '', whole)}.{fraction}" if fits else None
    if signs:
        plain = digits.replace(",", ".") if signs == 1 else None
        if _GROUPED_COMMA.fullmatch(digits) and not digits.startswith("0"):
            # Where other numbers have decimal commas, one comma before three digits is ambiguous.
            plain = None if signs == 1 and _has_commas(text, euro=euro) else digits.replace(",", "")
    elif _GROUPED_POINT.fullmatch(digits) and not digits.startswith("0"):
        grouped = points > 1 or _has_commas(text, euro=euro)
        plain = digits.replace(".", "") if grouped else None if _CONTINENTAL.search(text) else digits
    else:
        plain = "0" + digits if points < 2 else None
    return plain


def _has_commas(text: str, *, euro: bool) -> bool:
    return euro or _DECIMAL_COMMA.search(text) is not None


def _is_or(text: str, one: Number, other: Number) -> bool:
    return _OR.search(text[one.end : other.start]) is not None and one.value != other.value


def _end_of_braces(text: str, place: int) -> int:
    depth = 0
    for end in range(place, min(place + 500, len(text))):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return end + 1
    return min(place + 500, len(text))


def _read_words(text: str) -> Fraction | None:
    """Return the small number that a text without digits names: alone, or behind an announcement."""
    alone = text.strip(" .!。*\"'\n").casefold()
    if alone in WORDS:
        return Fraction(WORDS[alone])
    announced = list(_ANNOUNCED.finditer(text))
    named = re.match(r"[^\W\d_]+", text[announced[-1].end() :]) if announced else None
    return Fraction(WORDS[named[0].casefold()]) if named and named[0].casefold() in WORDS else None
