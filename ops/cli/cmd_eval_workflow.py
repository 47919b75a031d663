"""``pointsman eval workflow``: run the cases of a workflow, and grade the outputs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson, Judge, RunName, RunTimeout, WorkflowName
from ops.cli.cmd_workflows import known_workflow
from ops.cli.environment import load_config, open_producer
from ops.cli.exits import Exit, Failure
from ops.cli.render import cost, note, print_json, print_table, seconds

if TYPE_CHECKING:
    from ops.evaluate.workflow import GradedCase, WorkflowCase, WorkflowScore
    from tasks.config.config import Config
    from tasks.config.library import Workflow

#: Wrong cases that are listed.
NAMED = 20


async def workflow(
    name: WorkflowName,
    *,
    cases: Annotated[
        Path | None, typer.Option("--cases", metavar="FILE", help="JSON lines. By default those of the workflow.")
    ] = None,
    judge: Judge = None,
    run: RunName = None,
    timeout: RunTimeout = None,
    as_json: AsJson = False,
) -> int:
    """Run a workflow's cases as jobs, and grade the outputs.

    A case is a line such as `{"input": {"text": ...}, "expect": {"contains": "30 days"}}`; it is right if all of its
    expectations hold: exact, contains, regex, numeric, json_schema, label, route, judge. The exit code is 1 if no job
    succeeded; a share of wrong answers is a result, not a failure.

        pointsman eval workflow support_chat
        pointsman eval workflow legal_review --cases mine.jsonl --judge careful
    """
    from ops.cli.waiting import check_workers, name_run, open_run
    from ops.evaluate.workflow import ask_cases, read_workflow_cases, score

    called = name_run(run)
    config = load_config()
    known = known_workflow(config, name)
    file = cases or known.cases
    if file is None:
        raise Failure("usage", f"the workflow {name!r} has no cases", field="cases", remedy="name some with --cases")
    read = read_workflow_cases(file, known)
    _check_judge(judge, read, config)
    again = ["pointsman", "eval", "workflow", name, *(["--cases", str(cases)] if cases else [])]
    again += ["--judge", judge] if judge else []
    async with open_producer() as producer:
        await check_workers(_models(config, known, judge))
        note(f"{len(read)} cases of {file}")
        async with open_run(producer, called, file=str(file), again=shlex.join(again), timeout=timeout) as session:
            graded = await ask_cases(session, name, read, judge=judge)
    found = score(graded)
    if as_json:
        _print_json(called, name, file, found, graded)
    else:
        _show(found)
    if found.simulated:
        note("simulated models answered: this proves nothing")
    return Exit.FAILED if found.failed == found.cases else Exit.OK


def _check_judge(judge: str | None, cases: Sequence[WorkflowCase], config: Config) -> None:
    if judge is not None and judge not in config.models:
        remedy = f"allowed: {', '.join(sorted(config.models))}"
        raise Failure("bad_input", f"{judge!r} is not a model", field="judge", remedy=remedy)
    if judge is None and any("judge" in case.expect for case in cases):
        raise Failure("usage", "some cases are graded by a judge", field="judge", remedy="name a model with --judge")


def _models(config: Config, workflow: Workflow, judge: str | None) -> tuple[str, ...]:
    """Return the models without which a step may wait forever: the only candidate of a route, and the judge."""
    alone = [route.models[0] for route in workflow.routes.values() if len(route.models) == 1]
    return tuple(dict.fromkeys([*alone, *((judge,) if judge else ())])) or tuple(config.models)[:1]


def _print_json(run: str, name: str, file: Path, found: WorkflowScore, graded: list[GradedCase]) -> None:
    print_json(
        {
            "run": run,
            "workflow": name,
            "file": str(file),
            **{key: getattr(found, key) for key in ("cases", "graded", "right", "share", "interval", "failed")},
            "graders": {grader: {"right": right, "of": of} for grader, (right, of) in found.graders.items()},
            **{key: getattr(found, key) for key in ("cost_usd", "mean_cost_usd", "p50_s", "p95_s", "simulated")},
            "each": [_case(one) for one in graded],
        }
    )


def _case(one: GradedCase) -> dict[str, Any]:
    return {
        "id": one.case.id,
        "line": one.case.line,
        "job": one.result.id if one.result is not None else None,
        "state": one.result.state if one.result is not None else None,
        "right": one.right,
        "grades": dict(one.grades),
        "cost_usd": one.result.cost_usd if one.result is not None else None,
        "latency_s": one.latency_s,
    }


def _show(found: WorkflowScore) -> None:
    low, high = found.interval or (0.0, 0.0)
    share = f"{found.share:.0%} ({low:.0%}–{high:.0%})" if found.share is not None else "-"
    head = ("graded", "right", "", "failed", "$ a case", "p50", "p95")
    row = (str(found.graded), str(found.right), share, str(found.failed), cost(found.mean_cost_usd))
    print_table(head, [(*row, seconds(found.p50_s), seconds(found.p95_s))], right=head)
    print()
    rows = [
        (grader, str(right), str(of), f"{right / of:.0%}" if of else "-")
        for grader, (right, of) in found.graders.items()
    ]
    print_table(("grader", "right", "of", ""), rows, whole=("grader",), right=("right", "of", ""))
    for one in found.wrong[:NAMED]:
        missed = ", ".join(grader for grader, grade in one.grades.items() if grade is False)
        note(f"wrong: line {one.case.line} ({one.case.id}): {missed}; job {one.result.id if one.result else 'is gone'}")
    if len(found.wrong) > NAMED:
        note(f"and {len(found.wrong) - NAMED} more")
