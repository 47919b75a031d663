"""``pointsman profile``: measure the models on an evaluation set, for routing and for people."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson, Judge, RunName, RunTimeout
from ops.cli.environment import load_config, open_producer
from ops.cli.exits import Exit, Failure
from ops.cli.render import note, number, print_json, print_table, seconds

if TYPE_CHECKING:
    from ops.evaluate.profiling.cases import CaseSet
    from ops.evaluate.profiling.judging import GradedAnswer, Grading
    from tasks.config.config import Config
    from tasks.config.profiles import ModelProfile, ProfileFile, Share

#: The profile file beside the configuration, unless --out or the configuration names one.
DEFAULT_OUT = "profiles.json"


@dataclass(frozen=True, slots=True)
class ProfileArguments:
    """What is measured, and the files that are written."""

    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="FILE", help="The evaluation set, JSON lines. By default a small starter set."),
    ] = None
    models: Annotated[
        str | None, typer.Option(metavar="A,B", help="The models to measure. By default all of the configuration.")
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The profile file. By default that of the configuration, or profiles.json."),
    ] = None
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write index.html there: tables, plots, wrong answers.")
    ] = None
    outcomes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a CSV of each model's outcomes by prompt, for cost-quality routing."),
    ] = None
    judge: Judge = None

    def command(self) -> str:
        """Return the command with these options."""
        options = {"eval": self.evaluation, "models": self.models, "out": self.out}
        options |= {"report": self.report, "outcomes": self.outcomes, "judge": self.judge}
        words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
        return shlex.join(["pointsman", "profile", *words])


async def profile(
    *, options: ProfileArguments, run: RunName = None, timeout: RunTimeout = None, as_json: AsJson = False
) -> int:
    """Measure the models: speed, accuracy, creativity, ethics, cost.

    Each model answers every case of an evaluation set, as jobs of low priority through the queues of a running
    `pointsman up`. The answers are graded, and the scores written into a profile file that routing reads; models that
    are not measured now keep their scores. Without --eval, a starter set of 48 cases is used: it shows that everything
    works, but is too small to choose a model by. An interrupted run goes on with --run NAME.

        pointsman profile
        pointsman profile --eval cases.jsonl --models fast,careful --report report
        pointsman profile --eval cases.jsonl --judge careful --outcomes outcomes.csv
    """
    from ops.cli.waiting import check_workers, name_run, open_run
    from ops.evaluate.profiling.cases import STARTER, read_cases
    from ops.evaluate.profiling.files import write_profiles
    from ops.evaluate.profiling.judging import by_subject
    from ops.evaluate.profiling.models import ask_models, check_judge, check_models, prompt_of
    from tasks.config.profiles import read_profile_file

    source = options.evaluation or STARTER
    cases, judge = read_cases(source), options.judge
    name = name_run(run)
    config = load_config()
    wanted = check_models([word.strip() for word in (options.models or "").split(",") if word.strip()], config)
    check_judge(judge, cases, config)
    for case in cases.cases:
        prompt_of(case, config)
    target = options.out or (config.folder / (config.profiles or DEFAULT_OUT))
    _check_places(target, options)
    before = read_profile_file(target) if target.exists() else None
    async with open_producer() as producer:
        await check_workers(tuple(dict.fromkeys((*wanted, *((judge,) if judge else ())))))
        _announce(cases, wanted, starter=options.evaluation is None)
        file = str(options.evaluation or STARTER.name)
        async with open_run(producer, name, file=file, again=options.command(), timeout=timeout) as session:
            grading = await ask_models(session, cases, models=wanted, judge=judge, config=config)
    graded = by_subject(grading, wanted)
    measured = _measure(graded, cases, run=name, judge=judge, config=config)
    written = write_profiles(target, measured, before=before)
    _write_reports(measured, graded, cases, options)
    print_profiles(measured, target, grading, as_json=as_json, run=name)
    print_remarks(measured, written, config, judge=judge, target=target, report=options.report)
    silent = [model for model, items in graded.items() if all(item.answer.text is None for item in items)]
    return Exit.FAILED if silent else Exit.OK


def _check_places(target: Path, options: ProfileArguments) -> None:
    """Raise `Failure` if a file can't be written: before an hour of measuring, not after."""
    for field, path in (("out", target), ("outcomes", options.outcomes)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise Failure(
                "bad_input", f"{path} can't be written", field=field, remedy="name a file in a folder that exists"
            )
    report = options.report
    if report is not None and report.exists() and not report.is_dir():
        raise Failure("bad_input", f"{report} is no folder", field="report", remedy="name a folder, new or old")


def _announce(cases: CaseSet, models: Sequence[str], *, starter: bool) -> None:
    asked = sum(case.samples for case in cases.cases) * len(models)
    of = "the starter set" if starter else cases.name
    note(f"{len(cases.cases)} cases of {of}, {len(models)} models: {asked} calls")
    if starter:
        note("  it shows that everything works; choose models by cases of your own: pointsman profile --eval FILE")


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


def _write_reports(
    measured: Mapping[str, ModelProfile],
    graded: Mapping[str, Sequence[GradedAnswer]],
    cases: CaseSet,
    options: ProfileArguments,
) -> None:
    from ops.evaluate.profiling.files import outcomes_csv, write_text
    from ops.evaluate.profiling.html_report import render

    if options.outcomes is not None:
        text, rows = outcomes_csv(graded)
        write_text(options.outcomes, text, field="outcomes")
        note(f"{rows} prompts with their outcomes are in {options.outcomes}")
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)
        write_text(options.report / "index.html", render(measured, graded, cases), field="report")


def print_profiles(
    measured: Mapping[str, ModelProfile],
    target: Path,
    grading: Grading,
    *,
    as_json: bool,
    run: str,
) -> None:
    if as_json:
        print_json(
            {
                "run": run,
                "out": str(target),
                "judge": {"calls": grading.judge_calls, "cost_usd": grading.judge_cost_usd},
                "models": {name: profile.model_dump(mode="json") for name, profile in measured.items()},
            }
        )
        return
    head = ("model", "speed", "accuracy", "creativity", "ethics", "cost", "p50", "p95", "$/1000", "ungraded")
    print_table(head, [(name, *_row(profile)) for name, profile in measured.items()], whole=("model",), right=head[1:])
    if any(profile.routes for profile in measured.values()):
        print()
        routes = sorted({route for profile in measured.values() for route in profile.routes})
        rows = [(route, *(_share(profile.routes.get(route)) for profile in measured.values())) for route in routes]
        print_table(("accuracy on route", *measured), rows, whole=("accuracy on route",), right=tuple(measured))
    if grading.judge_calls:
        note(f"the judge was asked {grading.judge_calls} times, for ${grading.judge_cost_usd:.6f}")


def _row(profile: ModelProfile) -> tuple[str, ...]:
    scores, latency, cost = profile.scores, profile.latency, profile.cost
    return (
        number(scores.speed, ".0f"),
        _share(profile.accuracy),
        number(scores.creativity, ".0f"),
        _share(profile.ethics),
        number(scores.cost, ".0f"),
        seconds(latency.p50_s if latency else None),
        seconds(latency.p95_s if latency else None),
        f"{1000 * cost.mean_usd:.4g}" if cost else "-",
        str(sum(profile.ungraded.values())),
    )


def _share(share: Share | None) -> str:
    return "-" if share is None else f"{share.score:.0f} ({share.low:.0f}–{share.high:.0f})"


def print_remarks(
    measured: Mapping[str, ModelProfile],
    written: ProfileFile,
    config: Config,
    *,
    judge: str | None,
    target: Path,
    report: Path | None,
) -> None:
    """Print remarks on the figures on stderr."""
    from tasks.config.profiles import METRICS

    for name, profile in measured.items():
        if profile.ungraded:
            reasons = ", ".join(f"{count} {code}" for code, count in profile.ungraded.items())
            note(f"{name}: not graded, and not counted: {reasons}")
        typed = [metric for metric in METRICS if getattr(config.models[name].profile, metric, None) is not None]
        if typed:
            note(f"{name}: the configuration sets {', '.join(typed)}, which take precedence over the measured scores")
    if judge in measured:
        note(f"{judge} judged itself among others; judges favour their own answers")
    if any(profile.simulated for profile in measured.values()):
        note("simulated models answered: their profiles prove nothing")
    if len({profile.eval.sha256 for profile in written.models.values()}) > 1:
        note(f"{target} holds models that were measured with different evaluation sets; do not compare these")
    note(f"written: {target}" + (f", {report / 'index.html'}" if report else ""))
    if config.profiles is None or (config.folder / config.profiles).resolve() != target.resolve():
        place, folder = target.resolve(), config.folder.resolve()
        named = place.relative_to(folder) if place.is_relative_to(folder) else place
        note(f"  routing reads it with `profiles: {named}` in the configuration, after a restart")
