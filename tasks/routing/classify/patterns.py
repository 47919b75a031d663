r"""Regular expressions of routes, matched by RE2: in time linear in the text, whatever the pattern and the text.

Syntax: https://github.com/google/re2/wiki/Syntax. There are no backreferences and no lookaround, which may need
exponential time; ``\b``, ``\w`` and ``\d`` know ASCII alone, ``\pL`` is a letter of any script. Case does not matter,
but for patterns that begin with ``(?-i)``.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2

#: Characters of one pattern.
MOST_CHARACTERS = 1_000
#: Patterns of all routes together: each has some kilobytes, and `MEMORY` at most.
MOST_PATTERNS = 1_000
#: Bytes that one compiled pattern and its automaton may take; past them RE2 goes on without the automaton, more slowly.
MEMORY = 1 << 20
#: Steps that one pattern may take without its automaton: instructions of its program times bytes of the text. Half a
#: second, measured; of a text that would need more, only the beginning is read, though never less than `LEAST_READ`.
STEPS = 250_000_000
LEAST_READ = 32_768

_LOOKAROUND = ("(?=", "(?!", "(?<=", "(?<!")
#: A border of words beside a letter that `\b` takes for none.
_LOST_BORDER = re.compile(r"(?<!\\)(?:\\\\)*\\b[^\x00-\x7f]|[^\x00-\x7f]\\b")


def compile_pattern(pattern: str) -> Any:
    """Compile one pattern.

    Raises:
        ValueError: with the place in the pattern, counted from 1, and the remedy.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise ValueError(f"has {len(pattern):,} characters, the limit is {MOST_CHARACTERS:,}; write several patterns")
    if lost := _LOST_BORDER.search(pattern):
        raise ValueError(
            rf"character {lost.start() + 1}: \b knows ASCII letters alone, beside this one it finds no border; "
            r"use (?:^|\PL) and (?:\PL|$), or a keyword"
        )
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MEMORY
    try:
        compiled = re2.compile(unicodedata.normalize("NFC", pattern), options)
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is no Unicode; leave it out") from None
    except re2.error as error:
        raise ValueError(_explain(pattern, error)) from None
    if compiled.search(b"") is not None:
        raise ValueError("is found in an empty text, so it is found in all; ask for at least one character")
    return compiled


class Patterns:
    """The patterns of several routes. Safe to share between threads; the search runs without the interpreter's lock."""

    def __init__(self, patterns: Mapping[str, Sequence[str]]) -> None:
        """`patterns` by route. One may stand under several routes.

        Raises:
            ValueError: if one doesn't compile; the configuration has checked them.
        """
        owners: dict[str, list[str]] = {}
        for route, own in patterns.items():
            for pattern in dict.fromkeys(own):
                owners.setdefault(pattern, []).append(route)
        self._patterns = tuple(_Compiled.of(pattern, tuple(routes)) for pattern, routes in owners.items())

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def found(self, text: str) -> list[tuple[str, tuple[str, ...]]]:
        """Each pattern that is found in `text`, with its routes, in the order of the configuration."""
        if not self._patterns:
            return []
        data = unicodedata.normalize("NFC", text).encode("utf-8", "replace")
        return [(one.pattern, one.routes) for one in self._patterns if one.is_in(data)]


@dataclass(frozen=True, slots=True)
class _Compiled:
    pattern: str
    routes: tuple[str, ...]
    compiled: Any
    reach: int

    @classmethod
    def of(cls, pattern: str, routes: tuple[str, ...]) -> _Compiled:
        compiled = compile_pattern(pattern)
        return cls(pattern, routes, compiled, max(LEAST_READ, STEPS // max(1, compiled.programsize)))

    def is_in(self, data: bytes) -> bool:
        return self.compiled.search(data if len(data) <= self.reach else data[: self.reach]) is not None


def _explain(pattern: str, error: Exception) -> str:
    """Format RE2's own message with the place and a remedy."""
    raw = error.args[0]
    problem, _, fragment = (raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)).partition(": ")
    place = _place(pattern, problem, fragment)
    where = f"character {place + 1}: " if place is not None else ""
    if fragment in _LOOKAROUND:
        remedy = "this engine has no lookaround; match what stands around it as well, or write two patterns"
    elif re.fullmatch(r"\\[1-9]", fragment) or (fragment == "(?P" and "(?P=" in pattern):
        remedy = "this engine has no backreferences; write out the alternatives"
    elif fragment == r"\Z":
        remedy = r"the end of the text is \z"
    elif "too large" in problem or "repetition size" in problem:
        remedy = "make its repetitions smaller"
    else:
        remedy = "the syntax is that of RE2"
    return f"{where}{problem}{' ' + fragment if fragment and fragment != pattern else ''}; {remedy}"


def _place(pattern: str, problem: str, fragment: str) -> int | None:
    """Find the place of the mistake. RE2 names no fragment for an open bracket: there Python's error has the place."""
    if fragment and fragment != pattern and (place := pattern.find(fragment)) >= 0:
        return place
    if not problem.startswith(("missing", "unexpected", "invalid named")):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python might read differently one day
            re.compile(pattern)
    except re.error as error:
        return error.pos
    return None
