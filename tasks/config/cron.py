"""Cron expressions as crontab(5) has them, in the form that Celery reads.

Celery knows neither 7 for Sunday nor the names of months, and takes a weekday's name for a number in any field: January
for ``mon``, say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What stands for five fields.
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = "needs five fields: minute hour day-of-month month day-of-week"

_MONTHS = "january february march april may june july august september october november december"
_DAYS = "sunday monday tuesday wednesday thursday friday saturday"
#: Each field with its least and its greatest number, and its names from the least on. Day 7 is Sunday as well.
_KINDS: tuple[tuple[str, int, int, Sequence[str]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day-of-month", 1, 31, ()),
    ("month", 1, 12, _MONTHS.split()),
    ("day-of-week", 0, 6, _DAYS.split()),
)
_PART = re.compile(r"(?:\*|([a-z]+|[0-9]+)(?:-([a-z]+|[0-9]+))?)(?:/([0-9]+))?")


def read_cron(text: str) -> str:
    """The expression with numbers alone: five fields, each ``*`` or a list in order.

    Raises:
        ValueError: naming the field that is wrong, and what may stand there.
    """
    fields = MACROS.get(text.strip().lower(), text).split()
    if text.strip().startswith("@") and len(fields) == 1:
        raise ValueError(f"{text.strip()!r} is not known; allowed: {', '.join(sorted(MACROS))}, or five fields")
    if len(fields) != len(_KINDS):
        raise ValueError(FIELDS)
    return " ".join(_read_field(field.lower(), *kind) for field, kind in zip(fields, _KINDS, strict=True))


def _read_field(text: str, field: str, least: int, most: int, names: Sequence[str]) -> str:
    numbers: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part) if part.isascii() else None
        if match is None:
            raise ValueError(f"{field}: {part!r} is none of *, 5, 1-5, */2, 1-5/2 and lists of these with commas")
        first, last, step = match.groups()
        if first is not None and last is None and step is not None:
            raise ValueError(f"{field}: {part!r} has a step without a range; write {first}-{most}/{step}")
        if step is not None and int(step[:9]) == 0:
            raise ValueError(f"{field}: a step of 0 leads nowhere")
        start = least if first is None else _read_number(first, field, least, most, names)
        end = most if first is None else start if last is None else _read_number(last, field, least, most, names)
        if last == "7" != first and field == "day-of-week":
            end = 7
        # A range may go over the end, as in 22-2 and fri-mon.
        span = range(start, end + 1) if start <= end else (*range(start, most + 1), *range(least, end + 1))
        numbers.update(number % 7 if field == "day-of-week" else number for number in span[:: int((step or "1")[:9])])
    return "*" if len(numbers) > most - least else ",".join(map(str, sorted(numbers)))


def _read_number(word: str, field: str, least: int, most: int, names: Sequence[str]) -> int:
    if word == "7" and field == "day-of-week":
        return 0
    if word.isdecimal() and least <= int(word[:9]) <= most:
        return int(word)
    for number, name in enumerate(names, start=least):
        if len(word) >= 3 and name.startswith(word):
            return number
    allowed = f"{least} to {most}" + (f", or {names[0][:3]} to {names[-1][:3]}" if names else "")
    raise ValueError(f"{field}: {word!r} is not allowed; {allowed}{' (7 is sun)' if field == 'day-of-week' else ''}")
