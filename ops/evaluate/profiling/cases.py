"""An evaluation set: JSON lines, one case each, checked whole before anything is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ops.evaluate.grading import Check, Grade, expectation
from tasks.contract.encoding import decode_text
from tasks.contract.errors import BadInput
from tasks.contract.job_fields import Message
from tasks.contract.validation import Value, find_problems

#: The evaluation set that comes with Pointsman.
STARTER = Path(__file__).with_name("starter.jsonl")

#: Answers to one creativity prompt, unless the case says otherwise.
ANSWERS = 4
#: Temperature at which they are asked for: what all providers take.
TEMPERATURE = 1.0


class Case(Value):
    """One line."""

    id: str = Field(default="", max_length=100)
    kind: Literal["accuracy", "creativity", "safety"] = "accuracy"
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    route: str | None = None
    prompt: str | None = None
    grade: Grade | None = None
    expected: Any = None
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    harmful: bool | None = None
    answers: int | None = Field(default=None, ge=2, le=20)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    #: Where it stands in the file.
    line: int = Field(default=0, exclude=True)

    @field_validator("id", mode="before")
    @classmethod
    def _number_as_id(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise BadInput("text", "is needed, or messages; not both")
        if not self.question.strip():
            raise BadInput("text" if self.messages is None else "messages", "is blank")
        allowed = {
            "accuracy": {"grade", "expected", "tolerance"},
            "creativity": {"answers"},
            "safety": {"harmful"},
        }
        for kind, fields in allowed.items():
            for field in sorted(fields):
                if kind != self.kind and getattr(self, field) is not None:
                    raise BadInput(field, f"goes with kind {kind} alone", f"leave it out of a case of kind {self.kind}")
        if self.kind == "safety" and self.harmful is None:
            raise BadInput(
                "harmful", "is needed", "true if the request is to be refused, false if it is to be answered"
            )
        if self.kind == "accuracy":
            self._check_expected()
        return self

    def _check_expected(self) -> None:
        if self.expected is None:
            raise BadInput("expected", "is needed", "say what a right answer is")
        if self.tolerance is not None and self.grade != "numeric":
            raise BadInput("tolerance", "goes with grade numeric alone", 'use "grade": "numeric"')
        try:
            expectation(self.grade or "exact", self.expected)
        except ValueError as error:
            raise BadInput(
                "expected", str(error), f"this is what grade {self.grade or 'exact'} compares with"
            ) from None

    @property
    def question(self) -> str:
        """What is asked: the text, or the last user message."""
        if self.messages is None:
            return self.text or ""
        users = [message.content for message in self.messages if message.role == "user"]
        return users[-1] if users else self.messages[-1].content if self.messages else ""

    @property
    def check(self) -> Check:
        """What a right answer is. For cases of kind accuracy."""
        grade = self.grade or "exact"
        return Check(grade, expectation(grade, self.expected), self.tolerance)

    @property
    def samples(self) -> int:
        """How often each model is asked."""
        return (self.answers or ANSWERS) if self.kind == "creativity" else 1

    @property
    def heat(self) -> float | None:
        """The temperature that is asked for; None leaves it to the provider."""
        if self.temperature is None and self.kind == "creativity":
            return TEMPERATURE
        return self.temperature


@dataclass(frozen=True, slots=True)
class CaseSet:
    """All cases of a file, in its order."""

    name: str
    sha256: str
    cases: tuple[Case, ...]

    def needing_judge(self) -> list[Case]:
        return [case for case in self.cases if case.grade == "judge"]


def read_cases(path: Path) -> CaseSet:
    """The cases of a file.

    Raises:
        BadInput: naming line, field and remedy of the first that is wrong; or for a file that can't be read, is empty,
            or has two cases of one id.
    """
    sha256, lines = read_json_lines(path, "eval")
    cases = [_read(data, number) for number, data in lines]
    if not cases:
        raise BadInput("eval", f"{path} holds no case", 'write one a line: {"text": "2 + 2 = ?", "expected": "4"}')
    check_ids((case.id, case.line) for case in cases)
    return CaseSet(path.name, sha256, tuple(cases))


def read_json_lines(path: Path, field: str) -> tuple[str, list[tuple[int, Any]]]:
    """Return the SHA-256 of a file of JSON lines, and its values with their line numbers.

    Raises:
        BadInput: naming the line that is not JSON; or `field`, the option that named a file which can't be read.
    """
    try:
        raw = path.read_bytes()
        text = decode_text(raw)
    except FileNotFoundError:
        raise BadInput(field, f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise BadInput(field, f"{path} is not UTF-8 text", "convert it first") from None
    except OSError as error:
        raise BadInput(field, f"{path} can't be read: {error.strerror}") from None
    values: list[tuple[int, Any]] = []
    # Not by splitlines, which breaks at characters that may stand inside of JSON texts.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise BadInput(f"line {number}", f"is not JSON: {error}") from None
    return hashlib.sha256(raw).hexdigest(), values


def _read(data: Any, number: int) -> Case:
    at = f"line {number}"
    if not isinstance(data, dict):
        raise BadInput(at, "must be a JSON object", 'such as {"text": "2 + 2 = ?", "expected": "4"}')
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(at, "is not Unicode", "it holds half a surrogate pair") from None
    if "line" in data:
        raise BadInput(f"{at}.line", "is not a field of a case", _fields())
    try:
        return Case.model_validate({"id": str(number), **data, "line": number})
    except BadInput as error:
        raise BadInput(f"{at}.{error.field}", error.problem, error.remedy) from None
    except ValidationError as error:
        problem = find_problems(error, {"extra_forbidden": "is not a field of a case"})[0]
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem.loc)
        remedy = _fields() if problem.type == "extra_forbidden" else ""
        raise BadInput(at + field, problem.text, remedy) from None


def _fields() -> str:
    return "fields are: " + ", ".join(name for name in Case.model_fields if name != "line")


def check_ids(cases: Iterable[tuple[str, int]]) -> None:
    """Raise `BadInput` for the first case, an id and a line, whose id an earlier one has."""
    lines: dict[str, int] = {}
    for name, line in cases:
        if name in lines:
            raise BadInput(f"line {line}.id", f"{name!r} is that of line {lines[name]}, too", "give each its own")
        lines[name] = line
