"""How well the readers of answers read: labelled texts, and what votes, joins and graders make of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from ops.evaluate.profiling.cases import read_json_lines
from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.errors import BadInput
from tasks.contract.reasoning import split_reasoning
from tasks.contract.validation import find_problems
from tasks.parallel.joins.ranked import RankedOptions
from tasks.parallel.joins.scores import ScoreOptions
from tasks.parallel.joins.threshold import ThresholdOptions, read_flag
from tasks.parallel.votes.ballot import BallotOptions, read_ballot
from tasks.parallel.votes.normalize import normalize
from tasks.parallel.votes.number import read_number, write_number
from tasks.parallel.votes.ranking_text import read_ranking
from tasks.parallel.votes.score import read_score

#: What came of a text: a reader is right, also where it abstains as it should; it abstains; or it is silently wrong.
Outcome: TypeAlias = Literal["right", "abstained", "wrong"]
#: An expected or a read value in its one form; None abstains.
Value: TypeAlias = Any
_FIELDS = ("id", "kind", "text", "expected", "options")


@dataclass(frozen=True, slots=True)
class AnswerCase:
    """A labelled text. `read` applies the reader of its kind; `expected` is None where a reader must abstain."""

    id: str
    line: int
    kind: str
    text: str
    expected: Value
    read: Callable[[str], Value]


@dataclass(frozen=True, slots=True)
class ReadCase:
    """A case with what its reader made of it."""

    case: AnswerCase
    found: Value

    @property
    def outcome(self) -> Outcome:
        if self.found == self.case.expected:
            return "right"
        return "abstained" if self.found is None else "wrong"


def read_answer_cases(path: Path) -> tuple[AnswerCase, ...]:
    """Return the cases of a file of JSON lines.

    Raises:
        BadInput: for the first line that is no case, with its field and the remedy; or for a file without a case.
    """
    cases = tuple(_read(data, number) for number, data in read_json_lines(path, "file")[1])
    if not cases:
        remedy = 'write one a line: {"kind": "choice", "text": …, "expected": "B", "options": {"answers": ["A", "B"]}}'
        raise BadInput("file", f"{path} holds no case", remedy)
    return cases


def read_cases(cases: Sequence[AnswerCase]) -> list[ReadCase]:
    """Apply the reader of its kind to each case."""
    return [ReadCase(case, case.read(case.text)) for case in cases]


def count_outcomes(read: Sequence[ReadCase]) -> dict[str, dict[Outcome, int]]:
    """Return the number of each outcome by kind, the kinds in order of appearance."""
    counts: dict[str, dict[Outcome, int]] = {}
    for one in read:
        counts.setdefault(one.case.kind, {"right": 0, "abstained": 0, "wrong": 0})[one.outcome] += 1
    return counts


def _read(data: Any, number: int) -> AnswerCase:
    at = f"line {number}"
    if not isinstance(data, dict):
        raise BadInput(at, "must be a JSON object", f"with {', '.join(_FIELDS)}")
    for name in data:
        if name not in _FIELDS:
            raise BadInput(f"{at}.{name}", "is not a field of a case", f"fields are: {', '.join(_FIELDS)}")
    kind, text, options = data.get("kind"), data.get("text"), data.get("options", {})
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadInput(f"{at}.kind", "is no kind of answer", f"kinds are: {', '.join(KINDS)}")
    if not isinstance(text, str) or "expected" not in data or not isinstance(options, dict):
        raise BadInput(
            at, "has no text, no expected value, or options that are no object", "expected null: it must abstain"
        )
    try:
        read, expect = KINDS[kind](options)
        expected = None if data["expected"] is None else expect(data["expected"])
    except ValidationError as error:
        problem = find_problems(error, {})[0]
        raise BadInput(f"{at}.options.{'.'.join(map(str, problem.loc))}", problem.text) from None
    except (TypeError, ValueError):
        raise BadInput(
            f"{at}.expected", f"is no value of the kind {kind}", "write it as the join's details show it"
        ) from None
    return AnswerCase(str(data.get("id", number)), number, kind, text, expected, read)


#: From the options of a case to its reader, and to what makes an expected value comparable.
_Reader: TypeAlias = tuple[Callable[[str], Value], Callable[[Any], Value]]


def _choice(options: Mapping[str, Any]) -> _Reader:
    how = BallotOptions.model_validate(options)
    return lambda text: read_ballot(text, how) or None, lambda expected: normalize(str(expected))


def _flag(options: Mapping[str, Any]) -> _Reader:
    how = ThresholdOptions.model_validate(options)
    return lambda text: read_flag(text, how) or None, str


def _number(options: Mapping[str, Any]) -> _Reader:
    BallotOptions.model_validate(options)

    def read(text: str) -> str | None:
        found = read_number(text)
        return None if found is None else write_number(found)

    def expect(value: Any) -> str:
        found = read_number(str(value))
        if found is None:
            raise ValueError
        return write_number(found)

    return read, expect


def _score(options: Mapping[str, Any]) -> _Reader:
    how = ScoreOptions.model_validate(options)
    return lambda text: read_score(text, least=how.least, most=how.most, take=how.take), float


def _ranking(options: Mapping[str, Any]) -> _Reader:
    how = RankedOptions.model_validate(options)
    return lambda text: list(read_ranking(text, how.among)) or None, lambda names: [normalize(name) for name in names]


def _json(options: Mapping[str, Any]) -> _Reader:
    BallotOptions.model_validate(options)

    def read(text: str) -> Any:
        try:
            return parse_answer(split_reasoning(text)[1])
        except NotJSON:
            return None

    return read, lambda expected: expected


def _thoughts(options: Mapping[str, Any]) -> _Reader:
    BallotOptions.model_validate(options)
    return lambda text: split_reasoning(text)[1] or None, str


KINDS: Mapping[str, Callable[[Mapping[str, Any]], _Reader]] = {
    "choice": _choice,
    "flag": _flag,
    "number": _number,
    "score": _score,
    "ranking": _ranking,
    "json": _json,
    "thoughts": _thoughts,
}
