"""JSON of a provider, read so that no body can hurt: one bad number spoils no answer."""

from __future__ import annotations

import json
from typing import Any

#: Digits of the longest integer that is read as one: Python itself refuses 4,300 and needs quadratic time before.
_MOST_DIGITS = 400


def _read_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float("-inf" if digits.startswith("-") else "inf")


_DECODER = json.JSONDecoder(parse_int=_read_integer)


def read_json(content: bytes | str) -> Any:
    """The JSON value of `content`; an integer of absurd length is read as infinity.

    Raises:
        ValueError: for anything else; its text holds nothing of the content.
    """
    try:
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content), "surrogatepass")
        return _DECODER.decode(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except ValueError:
        raise ValueError("broken JSON") from None


def mend_text(text: str) -> str:
    """`text` with each lone surrogate replaced by U+FFFD: JSON can hold one, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
