"""Numbers as Word's formats write them (``w:numFmt``, ECMA-376-1, 17.18.59): ``iv``, ``c``, ``第`` … ``十二``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip
_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten",
    "eleven",
    "twelve",
    *(f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
)
_TENS = ("", "", *(f"{stem}ty" for stem in ("twen", "thir", "for", "fif", "six", "seven", "eigh", "nine")))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_CHINESE = "〇一二三四五六七八九"
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя"


def roman(number: int) -> str:
    """Return a Roman numeral in capitals, for 1 to 3999."""
    written = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        written += letters * count
    return written


def chinese(number: int) -> str:
    """Return a Chinese counting numeral, for 1 to 9999: 十二, 一百零五."""
    written, gap = "", False
    for value, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, value)
        if digit:
            first_ten = value == 10 and digit == 1 and not written
            written += ("零" if gap and written else "") + ("" if first_ten else _CHINESE[digit]) + unit
            gap = False
        else:
            gap = True
    return written


def _letters(alphabet: str) -> Callable[[int], str]:
    """Word goes on after z with aa, bb, cc."""
    return lambda number: alphabet[(number - 1) % len(alphabet)] * ((number - 1) // len(alphabet) + 1)


def _ordinal(number: int) -> str:
    last = number % 10 if number % 100 not in {11, 12, 13} else 0
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


def _cardinal(number: int) -> str:
    tens, ones = divmod(number, 10)
    if number < 20:
        return (*_UNITS, *_TEENS)[number]
    return _TENS[tens] + (f"-{_UNITS[ones]}" if ones else "")


def _ordinal_word(number: int) -> str:
    head, _, last = _cardinal(number).rpartition("-")
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{head}-{last}" if head else last


#: The largest number of each format, and how it is written; Word writes larger ones in digits, too.
_FORMS: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "upperRoman": (3999, roman),
    "lowerRoman": (3999, lambda number: roman(number).lower()),
    "upperLetter": (780, _letters(_LATIN.upper())),
    "lowerLetter": (780, _letters(_LATIN)),
    "russianUpper": (780, _letters(_RUSSIAN.upper())),
    "russianLower": (780, _letters(_RUSSIAN)),
    "decimalZero": (9, lambda number: f"0{number}"),
    "ordinal": (32_767, _ordinal),
    "cardinalText": (99, lambda number: _cardinal(number).capitalize()),
    "ordinalText": (99, lambda number: _ordinal_word(number).capitalize()),
    "hex": (32_767, lambda number: f"{number:X}"),
    "numberInDash": (32_767, lambda number: f"- {number} -"),
    "decimalEnclosedCircle": (20, lambda number: chr(0x2460 + number - 1)),
    "decimalEnclosedParen": (20, lambda number: f"({number})"),
    "decimalFullWidth": (32_767, lambda number: "".join(chr(0xFF10 + int(digit)) for digit in str(number))),
    **dict.fromkeys(
        ("chineseCounting", "chineseCountingThousand", "taiwaneseCounting", "taiwaneseCountingThousand",
         "japaneseCounting"),
        (9999, chinese),
    ),
    **dict.fromkeys(
        ("ideographDigital", "taiwaneseDigital", "japaneseDigitalTenThousand"),
        (32_767, lambda number: "".join(_CHINESE[int(digit)] for digit in str(number))),
    ),
    "ideographTraditional": (10, lambda number: "甲乙丙丁戊己庚辛壬癸"[number - 1]),
    "ideographZodiac": (12, lambda number: "子丑寅卯辰巳午未申酉戌亥"[number - 1]),
    "koreanCounting": (10, lambda number: "일이삼사오육칠팔구십"[number - 1]),
    "ganada": (14, lambda number: "가나다라마바사아자차카타파하"[number - 1]),
    "arabicAlpha": (28, lambda number: "أبتثجحخدذرزسشصضطظعغفقكلمنهوي"[number - 1]),
    "hebrew1": (10, lambda number: "אבגדהוזחטי"[number - 1]),
    "none": (32_767, lambda _: ""),
}  # fmt: skip


def numeral(number: int, form: str) -> str:
    """Return `number` in a format of Word; in digits for a format that is not here, and for numbers outside of it."""
    most, write = _FORMS.get(form, (0, str))
    return write(number) if 0 < number <= most or form == "none" else str(number)
