"""The evaluation set of a workflow: JSON lines, one case each, checked whole before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ops.evaluate.grading import Check, expectation
from tasks.contract.errors import BadInput

if TYPE_CHECKING:
    from tasks.config.library import Workflow

__all__ = ["GRADERS", "Expected", "WorkflowCase", "WorkflowCases", "read_workflow_cases"]

#: What `expect` may hold; all that a case names must hold of the answer.
GRADERS = ("exact", "contains", "regex", "numeric", "json_schema", "label", "route", "judge")
#: What `input` may hold: the rest of a job is the workflow's, or the evaluation's.
_INPUT = ("text", "items", "messages", "metadata")
_FIELDS = ("id", "input", "expect")

#: One expectation as it is checked: texts, checks, names of routes, or a reference for the judge.
Expected: TypeAlias = tuple[str, ...] | tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class WorkflowCase:
    """`input` are fields of a job, `expect` what each grader compares with; `line` is where it stands."""

    id: str
    line: int
    input: Mapping[str, Any]
    expect: Mapping[str, Expected]


@dataclass(frozen=True, slots=True)
class WorkflowCases:
    """All cases of a file, in its order."""

    file: Path
    cases: tuple[WorkflowCase, ...]

    @property
    def needs_judge(self) -> bool:
        return any("judge" in case.expect for case in self.cases)


def read_workflow_cases(path: Path, workflow: Workflow) -> WorkflowCases:
    """The cases of a file. That their inputs are jobs of the workflow is seen when they are submitted.

    Raises:
        BadInput: naming line, field and remedy of the first that is wrong; or for a file that can't be read, is empty,
            or has two cases of one id.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput("cases", f"{path} is not UTF-8 text", "convert it first") from None
    except OSError as error:
        raise BadInput("cases", f"{path} can't be read: {error.strerror}") from None
    cases: list[WorkflowCase] = []
    seen: dict[str, int] = {}
    # Not by splitlines, which breaks at characters that may stand inside of JSON texts.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        case = _read(line, number, workflow)
        if case.id in seen:
            raise BadInput(
                f"line {number}.id", f"{case.id!r} is that of line {seen[case.id]}, too", "give each its own"
            )
        seen[case.id] = number
        cases.append(case)
    if not cases:
        raise BadInput("cases", f"{path} holds no case", 'write one a line: {"input": {"text": …}, "expect": {…}}')
    return WorkflowCases(path, tuple(cases))


def _read(line: str, number: int, workflow: Workflow) -> WorkflowCase:
    at = f"line {number}"
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(at, f"is not JSON: {error}") from None
    given = _object(data, at, _FIELDS)
    known = _object(given.get("input"), f"{at}.input", _INPUT)
    wanted = _object(given.get("expect"), f"{at}.expect", GRADERS)
    if not wanted:
        raise BadInput(f"{at}.expect", "is empty", f"name one of {', '.join(GRADERS)}")
    expect = {}
    for grader, value in wanted.items():
        try:
            expect[grader] = tuple(_expected(grader, value, workflow))
        except ValueError as error:
            raise BadInput(f"{at}.expect.{grader}", str(error)) from None
    return WorkflowCase(str(given.get("id", number)), number, known, expect)


def _object(value: Any, at: str, fields: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(at, "must be a JSON object" if value is not None else "is missing", f"with {', '.join(fields)}")
    for name in value:
        if name not in fields:
            raise BadInput(f"{at}.{name}", "is not a field here", f"fields are: {', '.join(fields)}")
    return value


def _expected(grader: str, value: Any, workflow: Workflow) -> Iterator[Any]:
    """What it is compared with. Raises ValueError, saying what this grader needs."""
    if grader == "numeric" and isinstance(value, dict):
        if not value.keys() <= {"value", "tolerance"} or not isinstance(value.get("tolerance", 0), int | float):
            raise ValueError('must be a number, or {"value": 12, "tolerance": 0.5}')
        yield Check("numeric", expectation("numeric", value.get("value")), float(value.get("tolerance", 0)))
    elif grader == "numeric":
        yield Check("numeric", expectation("numeric", value))
    elif grader == "json_schema":
        yield Check("schema", expectation("schema", value))
    elif grader == "exact":
        yield Check("exact", expectation("exact", value))
    elif grader == "regex":
        yield from (Check("regex", expectation("regex", pattern)) for pattern in _texts(value))
    elif grader == "route":
        yield from (_route(name, workflow) for name in _texts(value))
    else:
        yield from _texts(value)


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one.strip() for one in texts):
        raise ValueError("must be a text, or a list of texts")
    return texts


def _route(name: str, workflow: Workflow) -> str:
    """The name that the route has in the configuration."""
    for full in (f"{workflow.name}.{name}", name):
        if full in workflow.routes:
            return full
    own = ", ".join(route.partition(".")[2] for route in workflow.routes if "." in route)
    raise ValueError(f"{name!r} is not a route of this workflow; there are: {own or 'none'}")
