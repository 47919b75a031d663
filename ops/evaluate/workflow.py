"""How good a workflow is on its cases: each is a job through the queues, each answer is graded."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ops.evaluate.grading import Check, Judging, expectation, is_right, right_questions
from ops.evaluate.profiling.asking import EvalQuestion, EvalRun
from ops.evaluate.profiling.cases import check_ids, read_json_lines
from ops.evaluate.profiling.judging import ask_judge
from ops.evaluate.profiling.statistics import quantile, wilson
from tasks.config.library import Workflow
from tasks.contract.errors import BadInput
from tasks.contract.result import Result
from tasks.parallel.votes import normalize

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


def read_workflow_cases(path: Path, workflow: Workflow) -> tuple[WorkflowCase, ...]:
    """The cases of a file. That their inputs are jobs of the workflow is seen when they are submitted.

    Raises:
        BadInput: naming line, field and remedy of the first that is wrong; or for a file that can't be read, is empty,
            or has two cases of one id.
    """
    cases = tuple(_read(data, number, workflow) for number, data in read_json_lines(path, "cases")[1])
    if not cases:
        raise BadInput("cases", f"{path} holds no case", 'write one a line: {"input": {"text": …}, "expect": {…}}')
    check_ids((case.id, case.line) for case in cases)
    return cases


def _read(data: Any, number: int, workflow: Workflow) -> WorkflowCase:
    at = f"line {number}"
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


#: Fields of a JSON answer that hold its label, in this order.
_LABELS = ("label", "verdict", "category", "class")


@dataclass(frozen=True, slots=True)
class GradedCase:
    """A case with what came of it. `grades` are True or False by grader, None where it could not be graded."""

    case: WorkflowCase
    result: Result | None
    grades: Mapping[str, bool | None]

    @property
    def right(self) -> bool | None:
        """Whether all graders accept; one refusal decides, else None if one could not grade."""
        if False in self.grades.values():
            return False
        return None if None in self.grades.values() else True

    @property
    def latency_s(self) -> float | None:
        """Seconds from acceptance to the end, waiting included."""
        if self.result is None or self.result.ended_at is None:
            return None
        return self.result.ended_at - self.result.accepted_at


@dataclass(frozen=True, slots=True)
class WorkflowScore:
    """Of the cases that could be graded: shares from 0 to 1, with Wilson's interval of 95%."""

    cases: int
    graded: int
    right: int
    failed: int
    #: By grader: how many were right, of how many.
    graders: Mapping[str, tuple[int, int]]
    cost_usd: float
    mean_cost_usd: float
    p50_s: float | None
    p95_s: float | None
    simulated: bool
    wrong: Sequence[GradedCase] = field(default=(), compare=False)

    @property
    def share(self) -> float | None:
        return self.right / self.graded if self.graded else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.right, self.graded) if self.graded else None


async def ask_cases(run: EvalRun, kind: str, cases: Sequence[WorkflowCase], *, judge: str | None) -> list[GradedCase]:
    """Run each case as a job of the workflow `kind`, and grade it. Without a `judge` no case may need one.

    Raises:
        BadInput, Unreachable, NotEnded: as `EvalRun.ask`.
    """
    questions = [
        EvalQuestion(f"workflow:{kind}:{case.id}", {"kind": kind, **case.input}, f"line {case.line}.input")
        for case in cases
    ]
    results = await run.results(questions)
    routes = await _routes(run, results)
    graded = [
        GradedCase(case, result, _grades(case, result, taken))
        for case, result, taken in zip(cases, results, routes, strict=True)
    ]
    return graded if judge is None else await _judged(run, graded, judge)


async def _routes(run: EvalRun, results: Sequence[Result | None]) -> list[set[str]]:
    """The routes that each job's steps took."""
    steps = [[part.job for part in result.parts if part.job] if result is not None else [] for result in results]
    every = [job for jobs in steps for job in jobs]
    found = dict(zip(every, await run.read(every), strict=True))
    return [
        {known.routing.route for job in jobs if (known := found[job]) is not None and known.routing is not None}
        for jobs in steps
    ]


def _grades(case: WorkflowCase, result: Result | None, routes: set[str]) -> dict[str, bool | None]:
    """A job that failed answers nothing: every grader says no. The judge is asked later."""
    answer = result.output if result is not None and result.state == "succeeded" else None
    grades: dict[str, bool | None] = {}
    for grader, expected in case.expect.items():
        if grader == "route":
            grades[grader] = not routes.isdisjoint(str(one) for one in expected)
        elif answer is None:
            grades[grader] = False
        else:
            grades[grader] = grade_answer(grader, expected, answer) if grader != "judge" else None
    return grades


def grade_answer(grader: str, expected: Expected, answer: str) -> bool:
    """Whether an answer holds what this grader expects. Pure; not for ``route`` and ``judge``.

    contains: every text, whatever its case and the blanks in it. label: the answer, or the field `label`, `verdict`,
    `category` or `class` of its JSON, is one of the texts, as votes are compared. The others: `grading.is_right`.
    """
    if grader == "contains":
        folded = _folded(answer)
        return all(_folded(str(text)) in folded for text in expected)
    if grader == "label":
        label = normalize(_label(answer))
        return any(label == normalize(str(text)) for text in expected)
    return all(is_right(answer, check) for check in expected if not isinstance(check, str))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _label(answer: str) -> str:
    from tasks.contract.answer import parse_answer

    try:
        read: Any = parse_answer(answer)
    except ValueError:
        return answer
    named = (read[name] for name in _LABELS if name in read) if isinstance(read, dict) else iter(())
    return str(next(named, answer))


async def _judged(run: EvalRun, graded: Sequence[GradedCase], judge: str) -> list[GradedCase]:
    """The same with the judge's verdicts: right is what convinces in both orders."""
    verdicts, _ = await ask_judge(run, judge, list(_judgings(graded)))
    found = list(graded)
    for place, words in verdicts.items():
        verdict = None if None in words else all(word == "right" for word in words)
        one = graded[place]
        found[place] = GradedCase(one.case, one.result, {**one.grades, "judge": verdict})
    return found


def _judgings(graded: Sequence[GradedCase]) -> Iterator[tuple[int, str, int, Judging]]:
    for place, one in enumerate(graded):
        if "judge" in one.grades and one.grades["judge"] is None and one.result is not None:
            reference = "\n".join(str(text) for text in one.case.expect["judge"])
            for judging in right_questions(_asked(one.case.input), reference, one.result.output or ""):
                yield place, one.case.id, one.case.line, judging


def _asked(given: Mapping[str, Any]) -> str:
    import json

    return str(given["text"]) if "text" in given else json.dumps(given, ensure_ascii=False)


def score(graded: Sequence[GradedCase]) -> WorkflowScore:
    """What the grades of all cases say together."""
    results = [one.result for one in graded if one.result is not None]
    times = sorted(seconds for one in graded if (seconds := one.latency_s) is not None)
    graders: dict[str, tuple[int, int]] = {}
    for one in graded:
        for grader, grade in one.grades.items():
            right, of = graders.get(grader, (0, 0))
            graders[grader] = (right + (grade is True), of + (grade is not None))
    cost = sum(result.cost_usd for result in results)
    return WorkflowScore(
        cases=len(graded),
        graded=sum(one.right is not None for one in graded),
        right=sum(one.right is True for one in graded),
        failed=sum(one.result is None or one.result.state != "succeeded" for one in graded),
        graders=graders,
        cost_usd=cost,
        mean_cost_usd=cost / len(graded) if graded else 0.0,
        p50_s=quantile(times, 0.5) if times else None,
        p95_s=quantile(times, 0.95) if times else None,
        simulated=any(result.simulated for result in results),
        wrong=[one for one in graded if one.right is False],
    )
