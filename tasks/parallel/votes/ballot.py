"""From what a model wrote to the ballot that it casts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import re2
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.contract.answer import parse_answer
from tasks.parallel.votes.normalize import normalize

__all__ = ["MOST_PATTERN", "NUMBER", "Finding", "Reading", "chosen", "read", "written"]

#: Characters of a pattern, and bytes that one may take compiled.
MOST_PATTERN = 1000
PATTERN_MEMORY = 4 * 1024 * 1024
#: A number inside a text: "1,200.50", "-5", "+3", ".5"; no sign in "5-3" and "gpt-4", no part of "3.1.2" but its ends.
NUMBER = re.compile(r"(?:(?<![\w.])[-+−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+")
#: Where an answer is announced: the last such place of a text counts.
_ANNOUNCED = re.compile(r"\b(?:answer|verdict|conclusion)\b(?:\s+is\b)?[\s*_:=]*", re.IGNORECASE)
#: What may stand before a choice and says nothing.
_OPENING = " \t\r\n\"'`*_([{“”‘’«‹~#>-"


class Finding(BaseModel):
    """Where in an output that which counts is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The output is JSON, also in a code fence: the steps to the value, with dots ("verdict", "scores.0").
    path: str | None = Field(default=None, min_length=1, max_length=200)
    #: A regular expression (RE2): what its last match says, or its first group.
    extract: str | None = Field(default=None, min_length=1, max_length=MOST_PATTERN)

    @field_validator("extract")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compiled(pattern)
        return pattern


class Reading(Finding):
    """How an output becomes a ballot: by `path`, then `extract`, then `take`, then `answers`; each may be left out."""

    #: What of the text is taken; a last number is without currency and unit ("18" of "… so she makes $18 a day.").
    take: Literal["whole", "first_line", "last_line", "last_number"] = "whole"
    #: The ballots that there are ("A", "B", "C", or "yes", "no"): whatever names none of them abstains.
    answers: tuple[str, ...] = Field(default=(), max_length=1000)

    @field_validator("answers")
    @classmethod
    def _differ(cls, answers: tuple[str, ...]) -> tuple[str, ...]:
        ballots = [normalize(answer) for answer in answers]
        if not all(ballots) or len(set(ballots)) < len(ballots):
            raise ValueError("must be different, and none blank, once case and punctuation are left out")
        return answers


def read(output: str, reading: Reading) -> str:
    """The ballot of an output, "" where it abstains: two outputs vote for the same thing when these are equal."""
    text = written(output, reading)
    if text is None:
        return ""
    if reading.take == "last_number":
        numbers = NUMBER.findall(text)
        # "007" is seven where a number is asked for.
        text = re.sub(r"^([-+−]?)0+(?=\d)", r"\1", numbers[-1]) if numbers else ""
    elif reading.take != "whole":
        lines = [line for line in text.splitlines() if line.strip()]
        text = lines[0 if reading.take == "first_line" else -1] if lines else ""
    return chosen(text, reading.answers) if reading.answers else normalize(text)


def written(output: str, finding: Finding) -> str | None:
    """The text that `path` and `extract` lead to; None where they lead nowhere."""
    text = output
    if finding.path is not None:
        found = _at(output, finding.path)
        if found is None:
            return None
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    if finding.extract is not None:
        matches = _matches(finding.extract, text)
        return matches[-1] if matches else None
    return text


def chosen(text: str, answers: Sequence[str]) -> str:
    """The one of `answers` that a text names, as `normalize` writes it; "" where it names none.

    It names one where it is that answer, begins with it ("B) Paris", "Yes, because …"), or does so behind its last
    "answer is" or "verdict:", or in its last line. A letter needs punctuation behind it: "A bird" is no A. An answer
    that is only mentioned is not chosen: "there is no …" says nothing of "no".
    """
    # The longest first: "not safe" begins with "not" as well.
    ballots = sorted((normalize(answer) for answer in answers), key=len, reverse=True)
    announced = list(_ANNOUNCED.finditer(text))
    lines = [line for line in text.splitlines() if line.strip()]
    places = ([text[announced[-1].end() :]] if announced else []) + [text] + lines[-1:]
    for place in places:
        whole = normalize(place)
        begins = place.lstrip(_OPENING).casefold()
        for ballot in ballots:
            if ballot == whole or _begins(begins, ballot):
                return ballot
    return ""


def _begins(text: str, ballot: str) -> bool:
    """Whether `text` begins with `ballot` as a word of its own."""
    if not text.startswith(ballot):
        return False
    following = text[len(ballot) : len(ballot) + 1]
    if len(ballot) == 1 and ballot.isalpha():
        return following in {"", ")", ".", ":", ",", ";", "]", "*", "\n", "-", "–", "—", "!", "`", '"'}
    return not (following.isalnum() or following == "_")


def _at(output: str, path: str) -> Any:
    """The value at a path of the output's JSON; None where there is none."""
    try:
        value = parse_answer(output)
    except ValueError:
        return None
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _matches(pattern: str, text: str) -> list[str]:
    compiled = _compiled(pattern)
    # RE2 reads UTF-8; half a surrogate pair is none.
    data = text.encode("utf-8", "replace").decode()
    return [match[1 if compiled.groups else 0] or "" for match in compiled.finditer(data)]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """Matched in linear time, whatever the pattern and the text.

    Raises:
        ValueError: if it doesn't compile, or has more than one group.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        compiled = re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError("is no regular expression that RE2 can match: no look-around, no back-references") from error
    if compiled.groups > 1:
        raise ValueError("has several groups; keep the one that holds the answer, and write (?:…) for the others")
    return compiled
