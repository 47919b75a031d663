"""Conditions on one fact about a request: equal to a value, to any of a list, or a number within bounds.

A name is that of a metadata entry, but for three that are derived: `length` (tokens of the text, estimated), `hour` and
`weekday` (of now, in the configured time zone). These three words always mean what is derived; a metadata entry of that
name is read as `metadata.length`, so neither can stand in for the other by accident.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: Names of facts that are derived rather than sent.
DERIVED = ("length", "hour", "weekday")
#: Starts the full name of a metadata entry; may be left out where it isn't called like a derived fact.
METADATA = "metadata."

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: The day itself, also written out: mon, Monday.
_WEEKDAY = re.compile(
    r"(mon)(?:day)?|(tue)(?:sday)?|(wed)(?:nesday)?|(thu)(?:rsday)?|(fri)(?:day)?|(sat)(?:urday)?|(sun)(?:day)?"
)
_HOURS = re.compile(r"(\d{1,2})\s*-\s*(\d{1,2})")

#: The kinds of values, as messages name them.
TEXT, NUMBER, TRUTH = "a text", "a number", "true or false"
_ALLOWED = "use a text, a number, true or false, a list of them, or {min, max}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one fact. Equal conditions hold for the same values, however they were written."""

    #: A derived fact, or the full name of a metadata entry.
    name: str
    #: Kind and value of each alternative; empty where bounds are given.
    among: frozenset[tuple[str, str | float]] = frozenset()
    least: float = -math.inf
    most: float = math.inf
    #: The condition as messages show it.
    text: str = field(default="", compare=False)

    def holds(self, value: Any) -> bool:
        """Whether a fact fulfils it; a fact that is missing or of another type does not."""
        known = plain(value)
        if known is None:
            return False
        if self.among:
            return known in self.among
        return known[0] == NUMBER and self.least <= float(known[1]) <= self.most

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of values that can be compared."""
        return frozenset(kind for kind, _ in self.among) or frozenset({NUMBER})

    @property
    def entry(self) -> str | None:
        """The metadata entry that is read, or None where the fact is derived."""
        return None if self.name in DERIVED else self.name.removeprefix(METADATA)


def read_fact(name: str, *, metadata: Mapping[str, Any], length: int | None, now: datetime | None) -> Any:
    """Return the fact of the name of a condition; None where it is unknown."""
    if name == "length":
        return length
    if name in DERIVED:
        return now and (now.hour if name == "hour" else WEEKDAYS[now.weekday()])
    return metadata.get(name.removeprefix(METADATA))


def read_condition(name: str, value: Any) -> Condition:
    """Read the condition of one name.

    Raises:
        ValueError: saying what may stand there.
    """
    if not name.removeprefix(METADATA):
        raise ValueError("is no name; write the name of a metadata entry, length, hour or weekday")
    canonical = name if name in DERIVED else METADATA + name.removeprefix(METADATA)
    if isinstance(value, Mapping):
        if name == "weekday":
            raise ValueError("is no number; write a day, days such as mon-fri, or a list of them")
        least, most = _bounds(value)
        if name == "hour":
            return Condition(name, _hours_between(least, most), text=f"hour is {_as_text(value)}")
        return Condition(canonical, least=least, most=most, text=f"{name} is {_as_text(value)}")
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError(f"is an empty list, so nothing fulfils it; {_ALLOWED}")
    read = {"hour": _hours, "weekday": _days, "length": _length}.get(name, _value)
    among = frozenset(one for item in items for one in read(item))
    kinds = {kind for kind, _ in among}
    if TRUTH in kinds and len(kinds) > 1:
        raise ValueError('true or false stands among other values; YAML reads yes, no, on and off so: write "no"')
    return Condition(canonical, among, text=f"{name} is {' or '.join(map(_as_text, items))}")


def plain(value: Any) -> tuple[str, str | float] | None:
    """The kind of a value, and what of it is compared; None where it can't be."""
    if isinstance(value, bool):
        return TRUTH, str(value)
    if isinstance(value, int | float):
        try:
            return (NUMBER, float(value)) if math.isfinite(value) else None
        except OverflowError:  # an integer of hundreds of digits
            return None
    if isinstance(value, str):
        return TEXT, unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).casefold())
    return None


def kind_of(value: Any) -> str:
    """The kind of a value, as messages name it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    known = plain(value)
    return known[0] if known else "not a finite number"


def _value(value: Any) -> Iterator[tuple[str, str | float]]:
    known = plain(value)
    if known is None:
        raise ValueError(f"can't be compared; {_ALLOWED}")
    yield known


def _length(value: Any) -> Iterator[tuple[str, str | float]]:
    known = plain(value)
    if known is None or known[0] != NUMBER:
        raise ValueError("is a number of tokens; write one, a list of them, or {min, max}")
    yield known


def _bounds(value: Mapping[str, Any]) -> tuple[float, float]:
    if not value or not {"min", "max"}.issuperset(value):
        raise ValueError("takes min and max, at least one of them")
    bounds = {}
    for name, bound in value.items():
        known = plain(bound)
        if known is None or known[0] != NUMBER:
            raise ValueError(f"{name} must be a number")
        bounds[name] = float(known[1])
    least, most = bounds.get("min", -math.inf), bounds.get("max", math.inf)
    if least > most:
        raise ValueError("min is greater than max, so nothing fulfils it; swap them")
    return least, most


def _hours_between(least: float, most: float) -> frozenset[tuple[str, str | float]]:
    hours = [hour for hour in range(24) if least <= hour <= most]
    if not hours or (math.isfinite(least) and least < 0) or (math.isfinite(most) and most > 23):
        raise ValueError('is from 0 to 23; over midnight write, for example, "22-6"')
    return frozenset((NUMBER, float(hour)) for hour in hours)


def _hours(value: Any) -> Iterator[tuple[str, str | float]]:
    """One hour as a number, or a span: "22-6" is from 22:00 up to, and without, 6:00."""
    problem = 'is a number from 0 to 23 or a span such as "22-6": from 22:00 until before 6:00'
    if isinstance(value, str):
        span = _HOURS.fullmatch(value.strip())
        first, end = (int(span[1]), int(span[2])) if span else (0, 0)
        if span is None or first > 23 or end > 24 or first == end:
            raise ValueError(problem)
        for step in range((end - first) % 24 or 24):
            yield NUMBER, float((first + step) % 24)
    elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 23:
        raise ValueError(problem)
    else:
        yield NUMBER, float(value)


def _days(value: Any) -> Iterator[tuple[str, str | float]]:
    """One day, or a span that includes its last: fri-mon."""
    days = [_WEEKDAY.fullmatch(part.strip()) for part in value.lower().split("-")] if isinstance(value, str) else []
    known = [WEEKDAYS.index(day[day.lastindex or 0]) for day in days if day is not None]
    if len(known) not in {1, 2} or len(known) != len(days):
        raise ValueError(f"is one of {', '.join(WEEKDAYS)}, or days such as mon-fri")
    for step in range((known[-1] - known[0]) % 7 + 1):
        yield TEXT, WEEKDAYS[(known[0] + step) % 7]


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{'at least' if name == 'min' else 'at most'} {bound}" for name, bound in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)
