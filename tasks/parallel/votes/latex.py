"""LaTeX around a value: what it shows without its commands."""

from __future__ import annotations

import re

#: Commands that change the looks of their argument alone.
_STYLE = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|bb|cal)|operatorname|mbox|hbox|emph|bm"
    r"|boldsymbol|displaystyle)\s{0,3}\{([^{}]{0,2000})\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s{0,3}\{([^{}]{1,100})\}\s{0,3}\{([^{}]{1,100})\}")
_SIGNS = re.compile(
    r"\\(?:left|right|displaystyle|Large|large|bf|rm)(?![a-zA-Z])|\\[()\[\]!,;: ]|\$\$?|\\(?=[$%&#_{}])|~"
)
#: Levels that are unwrapped; answers have fewer.
_LEVELS = 5


def unwrap_latex(text: str) -> str:
    r"""Return a text without LaTeX's styles, delimiters and spaces: ``$$\boxed{\text{B}}$$`` is ``B``.

    A fraction ``\frac{3}{4}`` becomes ``3/4``, after a whole number with a blank between. Other commands stay.
    """
    if "\\" not in text and "$" not in text:
        return text
    for _ in range(_LEVELS):
        text, styles = _STYLE.subn(r"\1", text)
        text, fractions = _FRACTION.subn(_fraction, text)
        if not styles and not fractions:
            break
    return _SIGNS.sub(_sign, text)


def _fraction(match: re.Match[str]) -> str:
    before = match.string[max(match.start() - 3, 0) : match.start()].rstrip()[-1:]
    return f"{' ' if before.isdigit() else ''}{match[1]}/{match[2]}"


def _sign(match: re.Match[str]) -> str:
    # A dollar before a digit is money as likely as mathematics.
    if match.group() == "$" and match.string[match.end() : match.end() + 1].isdigit():
        return "$"
    return " " if match.group() == "~" or match.group()[1:] in {" ", ",", ";", ":"} else ""
