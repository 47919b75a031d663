"""``pointsman eval prompts``: versions of a route's prompt, compared case by case."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson, Judge, RunName, RunTimeout
from ops.cli.environment import load_config, open_producer
from ops.cli.exits import Exit, Failure
from ops.cli.render import note, number, print_json, print_table, seconds

if TYPE_CHECKING:
    from ops.evaluate.profiling.cases import CaseSet
    from ops.evaluate.profiling.judging import GradedAnswer
    from ops.evaluate.profiling.prompts import PromptComparison, Version
    from tasks.config.config import Config

#: Below this, a difference is unlikely to be chance.
UNLIKELY = 0.05


@dataclass(frozen=True, slots=True)
class PromptArguments:
    """The prompts that are compared, and who answers and grades."""

    route: Annotated[str, typer.Option(metavar="NAME", help="The route whose prompt is compared.")]
    evaluation: Annotated[
        Path, typer.Option("--eval", metavar="FILE", help="The evaluation set, JSON lines, as for pointsman profile.")
    ]
    versions: Annotated[
        list[Path] | None, typer.Option("--prompts", metavar="FILE", help="A text file with a version of the prompt.")
    ] = None
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model that answers. By default the route's first one.")
    ] = None
    judge: Judge = None

    def command(self, files: Sequence[Path]) -> str:
        """Return the command with these options."""
        words = ["pointsman", "eval", "prompts", "--route", self.route, "--eval", str(self.evaluation)]
        words += [word for path in files for word in ("--prompts", str(path))]
        words += ["--model", self.model] if self.model else []
        words += ["--judge", self.judge] if self.judge else []
        return shlex.join(words)


async def prompts(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="More versions, as those of --prompts.")
    ] = None,
    *,
    options: PromptArguments,
    run: RunName = None,
    timeout: RunTimeout = None,
    as_json: AsJson = False,
) -> int:
    """Compare versions of a route's prompt on an evaluation set.

    One model answers every case with every version, through the queues of a running `pointsman up`; the prompt of the
    configuration is the version current. For each other version, `won` counts the cases that it gets right and current
    gets wrong, `lost` the opposite; p is the exact p-value of McNemar's test, after Holm if there are several versions.
    The accuracy cases that name this route or none are used.

        pointsman eval prompts --route billing --eval cases.jsonl --prompts short.txt strict.txt
    """
    from ops.cli.waiting import check_workers, name_run, open_run
    from ops.evaluate.profiling.cases import read_cases
    from ops.evaluate.profiling.models import check_judge
    from ops.evaluate.profiling.prompts import ask_versions, cases_of_route, compare, read_versions

    name = name_run(run)
    files = [*(options.versions or ()), *(more or ())]
    config, route, judge = load_config(), options.route, options.judge
    model = _check_names(config, route, options.model)
    cases = cases_of_route(read_cases(options.evaluation), route)
    check_judge(judge, cases, config)
    compared = read_versions(config.all_routes[route], files)
    async with open_producer() as producer:
        await check_workers(tuple(dict.fromkeys((model, *((judge,) if judge else ())))))
        _announce(cases, compared, model)
        again = options.command(files)
        async with open_run(producer, name, file=str(options.evaluation), again=again, timeout=timeout) as session:
            grading, by_version = await ask_versions(session, cases, versions=compared, model=model, judge=judge)
    comparisons = compare(by_version)
    if as_json:
        evaluation = {"name": cases.name, "sha256": cases.sha256, "cases": len(cases.cases)}
        about = {"run": name, "route": route, "model": model, "eval": evaluation}
        _print_json(about, compared, by_version, comparisons)
    else:
        _print_tables(by_version, comparisons)
    _print_remarks(by_version, simulated=any(item.answer.simulated for item in grading.graded))
    silent = all(item.answer.text is None for item in grading.graded)
    return Exit.FAILED if silent else Exit.OK


def _check_names(config: Config, route: str, model: str | None) -> str:
    """Check the names of a route and a model; return the model that answers."""
    for field, named, known in (("route", route, config.all_routes), ("model", model, config.models)):
        if named is not None and named not in known:
            raise Failure(
                "bad_input", f"{named!r} is not a {field}", field=field, remedy=f"allowed: {', '.join(sorted(known))}"
            )
    return model or config.all_routes[route].models[0]


def _announce(cases: CaseSet, versions: Sequence[Version], model: str) -> None:
    calls = len(cases.cases) * len(versions)
    note(f"{len(cases.cases)} cases of {cases.name}, {len(versions)} versions, model {model}: {calls} calls")


def _print_json(
    about: Mapping[str, Any],
    versions: Sequence[Version],
    by_version: Mapping[str, Sequence[GradedAnswer]],
    comparisons: Sequence[PromptComparison],
) -> None:
    from ops.evaluate.profiling.prompts import summary_of

    print_json(
        {
            **about,
            "versions": [
                {"name": version.name, "sha256": version.sha256, **summary_of(by_version[version.name])}
                for version in versions
            ],
            "comparisons": [asdict(comparison) for comparison in comparisons],
        }
    )


def _print_tables(by_version: Mapping[str, Sequence[GradedAnswer]], comparisons: Sequence[PromptComparison]) -> None:
    from ops.evaluate.profiling.prompts import summary_of

    head = ("version", "accuracy", "n", "$/1000", "tokens in", "out", "p50", "p95")
    rows = [(name, *_row(summary_of(graded))) for name, graded in by_version.items()]
    print_table(head, rows, whole=("version",), right=head[1:])
    if not comparisons:
        return
    print()
    compared = ("version", "against", "won", "lost", "same", "p", "")
    print_table(
        compared,
        [
            (
                one.version,
                one.against,
                str(one.wins),
                str(one.losses),
                str(one.ties),
                f"{one.p_adjusted:.3f}" if one.p_adjusted >= 0.001 else "<0.001",
                _judge(one),
            )
            for one in comparisons
        ],
        whole=("version", "against"),
        right=compared[2:6],
    )


def _row(summary: Mapping[str, Any]) -> tuple[str, ...]:
    share, usd = summary["accuracy"], summary["mean_usd"]
    return (
        f"{share['score']:.0f} ({share['low']:.0f}–{share['high']:.0f})" if share else "-",
        str(share["n"]) if share else "0",
        number(None if usd is None else 1000 * usd),
        number(summary["mean_input_tokens"], ".0f"),
        number(summary["mean_output_tokens"], ".0f"),
        seconds(summary["p50_s"]),
        seconds(summary["p95_s"]),
    )


def _judge(comparison: PromptComparison) -> str:
    if comparison.p_adjusted >= UNLIKELY:
        return "may be chance"
    return "better" if comparison.wins > comparison.losses else "worse"


def _print_remarks(by_version: Mapping[str, Sequence[GradedAnswer]], *, simulated: bool) -> None:
    for name, graded in by_version.items():
        ungraded = Counter(item.why for item in graded if item.right is None)
        if ungraded:
            note(f"{name}: not graded, and not counted: {', '.join(f'{n} {why}' for why, n in ungraded.items())}")
    if simulated:
        note("simulated models answered: this proves nothing")
