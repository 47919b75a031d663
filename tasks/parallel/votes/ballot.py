"""Read the ballot from the output of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.contract.answer import NotJSON, is_whole_json, parse_answer
from tasks.contract.reasoning import split_reasoning
from tasks.contract.regex import as_unicode, compile_regex
from tasks.parallel.votes.choice import read_choice
from tasks.parallel.votes.normalize import normalize
from tasks.parallel.votes.number import read_number, write_number

#: Characters of a pattern.
MOST_PATTERN = 1000
#: The end of a sentence or of a line. A point after a digit may be a decimal point, or the number of a list.
_SENTENCE_END = re.compile(r"(?:[!?…。！？]|(?<!\d)\.)[\"'”’)\]*_]*(?=\s|$)|\n")


class Extraction(BaseModel):
    """Where in an output the answer stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The output is JSON, bare or in a code fence: the steps to the value, with dots ("verdict", "scores.0").
    path: str | None = Field(default=None, min_length=1, max_length=200)
    #: A regular expression (RE2): its last match, or the first group of this match.
    extract: str | None = Field(default=None, min_length=1, max_length=MOST_PATTERN)

    @field_validator("extract")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compile(pattern)
        return pattern


def check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names unchanged; raise `ValueError` where the normal forms of two are equal, or one is blank."""
    ballots = [normalize(name) for name in names]
    if not all(ballots) or len(set(ballots)) < len(ballots):
        raise ValueError("must be different, and none blank, once case and punctuation are left out")
    return names


class BallotOptions(Extraction):
    """How an output becomes a ballot: by `path`, then `extract`, then `take`, then `answers`, each optional."""

    #: The part of the text that counts. A number is the one that the text concludes, without currency and unit ("18" of
    #: "… she makes $18 a day."); by default the last one.
    take: Literal["whole", "first_line", "last_line", "last_number"] = "whole"
    #: The possible ballots ("A", "B", "C", or "yes", "no"); an output that names none of them abstains.
    answers: tuple[str, ...] = Field(default=(), max_length=1000)

    _differ = field_validator("answers")(check_distinct)


def read_ballot(output: str, options: BallotOptions) -> str:
    """Return the ballot of an output, "" if it abstains. Outputs with equal ballots vote for the same answer."""
    text = extract_text(output, options)
    if text is None:
        return ""
    if options.take == "last_number":
        number = read_number(text)
        text = "" if number is None else write_number(number)
    elif options.take != "whole":
        lines = [line for line in text.splitlines() if line.strip()]
        text = lines[0 if options.take == "first_line" else -1] if lines else ""
    return read_choice(text, options.answers) if options.answers else normalize(text)


def read_cut_ballot(output: str, options: BallotOptions) -> str:
    """Return the ballot of an output that was cut, "" unless it is sure, whatever was still to come."""
    if not options.answers or options.take in {"last_line", "last_number"}:
        return ""
    text = find_sure_text(output, options, {normalize(answer): answer for answer in options.answers})
    return "" if text is None else read_ballot(text, options)


def find_sure_text(output: str, extraction: Extraction, ballots: Mapping[str, str]) -> str | None:
    """Return the part of an output that was cut which the rest of it can't change; None if there is none.

    That is JSON which is whole, the sentences before the cut, or a single word, if it begins the answers of one ballot
    alone; `ballots` maps the normalized answers to their ballots.
    """
    if extraction.path is not None:
        return output if is_whole_json(output) else None
    ends = [match.end() for match in _SENTENCE_END.finditer(output)]
    if ends and output[: ends[-1]].strip():
        return output[: ends[-1]]
    word = normalize(output)
    meant = {ballot for answer, ballot in ballots.items() if answer.startswith(word)}
    return output if len(output.split()) == 1 and len(meant) == 1 else None


def extract_text(output: str, extraction: Extraction) -> str | None:
    """Return the text at `path` and `extract`, without thoughts; None if there is none."""
    _, text = split_reasoning(output)
    if extraction.path is not None:
        found = _value_at(text, extraction.path)
        if found is None:
            return None
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    if extraction.extract is not None:
        matches = _find_matches(extraction.extract, text)
        return matches[-1] if matches else None
    return text


def _value_at(output: str, path: str) -> Any:
    """Return the value at a path of the output's JSON; None if there is none."""
    try:
        value = parse_answer(output)
    except NotJSON:
        return None
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _find_matches(pattern: str, text: str) -> list[str]:
    compiled = _compile(pattern)
    return [match[1 if compiled.groups else 0] or "" for match in compiled.finditer(as_unicode(text))]


def _compile(pattern: str) -> Any:
    """Compile a pattern with one group at most.

    Raises:
        ValueError: if it does not compile, or has more than one group.
    """
    compiled = compile_regex(pattern, most=MOST_PATTERN)
    if compiled.groups > 1:
        raise ValueError("has several groups; keep the one that holds the answer, and write (?:…) for the others")
    return compiled
