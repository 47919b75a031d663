"""``pointsman profile``: measure the models on an evaluation set, for routing to read and for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson, Judge, RunName, RunTimeout

if TYPE_CHECKING:
    from ops.evaluate.profiling.cases import CaseSet
    from ops.evaluate.profiling.judging import GradedAnswer
    from tasks.config.config import Config
    from tasks.config.profiles import ModelProfile, ProfileFile

__all__ = ["profile"]

#: What is written where neither --out nor the configuration names a file; beside the configuration.
DEFAULT_OUT = "profiles.json"


async def profile(
    *,
    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="FILE", help="The evaluation set, JSON lines. By default a small one of ours."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B", help="The models to measure. By default all of the configuration.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The profile file. By default that of the configuration, or profiles.json."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write index.html there: tables, plots, wrong answers.")
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a CSV of who was right at which prompt, for cost-quality routing."),
    ] = None,
    judge: Judge = None,
    run: RunName = None,
    timeout: RunTimeout = None,
    as_json: AsJson = False,
) -> int:
    """Measure the models: speed, accuracy, creativity, ethics, cost.

    Each model answers every case of an evaluation set, as jobs of low priority through the queues of a running
    `pointsman up`. The answers are graded, and the scores written into a profile file that routing reads; models that
    are not measured now keep theirs. Without --eval, a starter set of 48 cases is used: enough to see that all
    works, too few to choose a model by. A run that was interrupted goes on with --run NAME.

        pointsman profile
        pointsman profile --eval cases.jsonl --models fast,careful --report report
        pointsman profile --eval cases.jsonl --judge careful --outcomes outcomes.csv
    """
    from ops.cli.environment import load_config, open_producer
    from ops.cli.evaluation_run import check_workers, name_run, open_run
    from ops.cli.exits import Exit
    from ops.cli.profile_result import remark, tell
    from ops.evaluate.profiling.cases import STARTER, read_cases
    from ops.evaluate.profiling.models import ask_models, by_model, check_judge, check_models, prompt_of

    cases = read_cases(evaluation or STARTER)
    name = name_run(run)
    config = load_config()
    wanted = check_models([word.strip() for word in (models or "").split(",") if word.strip()], config)
    check_judge(judge, cases, config)
    for case in cases.cases:
        prompt_of(case, config)
    target = out or (config.folder / (config.profiles or DEFAULT_OUT))
    before = _before(target)
    _check_places(target, report, outcomes)
    async with open_producer() as producer:
        await check_workers(tuple(dict.fromkeys((*wanted, *((judge,) if judge else ())))))
        _announce(cases, wanted, starter=evaluation is None)
        again = _again(evaluation, models, out, report, outcomes, judge)
        async with open_run(
            producer, name, file=str(evaluation or STARTER.name), again=again, timeout=timeout
        ) as session:
            grading = await ask_models(session, cases, models=wanted, judge=judge, config=config)
    graded = by_model(grading, wanted)
    measured = _measure(graded, cases, run=name, judge=judge, config=config)
    written = _write(target, measured, before, graded, report=report, outcomes=outcomes, cases=cases)
    tell(measured, target, grading, as_json=as_json, run=name)
    remark(measured, written, config, judge=judge, target=target, report=report)
    nothing = [model for model, items in graded.items() if all(item.answer.text is None for item in items)]
    return Exit.FAILED if nothing else Exit.OK


def _before(target: Path) -> ProfileFile | None:
    """The profile file that is there already; None where there is none yet. Raises `ConfigError` for a damaged one."""
    from tasks.config.profiles import read_profile_file

    return read_profile_file(target) if target.exists() else None


def _check_places(target: Path, report: Path | None, outcomes: Path | None) -> None:
    """Whether there is room for what will be written: told before an hour of measuring, not after."""
    from ops.cli.exits import Failure

    for field, path in (("out", target), ("outcomes", outcomes)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise Failure(
                "bad_input", f"{path} can't be written", field=field, remedy="name a file in a folder that exists"
            )
    if report is not None and report.exists() and not report.is_dir():
        raise Failure("bad_input", f"{report} is no folder", field="report", remedy="name a folder, new or old")


def _announce(cases: CaseSet, models: Sequence[str], *, starter: bool) -> None:
    from ops.cli.render import note

    asked = sum(case.samples for case in cases.cases) * len(models)
    of = "the starter set" if starter else cases.name
    note(f"{len(cases.cases)} cases of {of}, {len(models)} models: {asked} calls")
    if starter:
        note("  it shows that all works; choose models by cases of your own: pointsman profile --eval FILE")


def _again(
    evaluation: Path | None,
    models: str | None,
    out: Path | None,
    report: Path | None,
    outcomes: Path | None,
    judge: str | None,
) -> str:
    """The command that goes on with this run, but for its name."""
    import shlex

    options = {"eval": evaluation, "models": models, "out": out, "report": report, "outcomes": outcomes, "judge": judge}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["pointsman", "profile", *words])


def _measure(
    graded: Mapping[str, Sequence[GradedAnswer]], cases: CaseSet, *, run: str, judge: str | None, config: Config
) -> dict[str, ModelProfile]:
    from ops.evaluate.profiling.measure import profile_of
    from ops.evaluate.profiling.models import is_priced
    from tasks.config.profiles import EvalSet

    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        model: profile_of(
            items,
            measured_at=now,
            run=run,
            eval_set=EvalSet(name=cases.name, sha256=cases.sha256, cases=len(cases.cases)),
            judge=judge,
            priced=is_priced(config.models[model]),
        )
        for model, items in graded.items()
    }


def _write(
    target: Path,
    measured: Mapping[str, ModelProfile],
    before: ProfileFile | None,
    graded: Mapping[str, Sequence[GradedAnswer]],
    *,
    report: Path | None,
    outcomes: Path | None,
    cases: CaseSet,
) -> ProfileFile:
    from ops.cli.render import note
    from ops.evaluate.profiling.files import outcomes_csv, write_profiles, write_text
    from ops.evaluate.profiling.report import render

    written = write_profiles(target, measured, before=before)
    if outcomes is not None:
        text, rows = outcomes_csv(graded)
        write_text(outcomes, text, field="outcomes")
        note(f"{rows} prompts with their outcomes are in {outcomes}")
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        write_text(report / "index.html", render(measured, graded, cases), field="report")
    return written
