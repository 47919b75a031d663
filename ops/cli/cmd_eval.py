"""`pointsman eval …`: how good a classifier, a strategy, a prompt, a workflow or the readers of answers are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson, Plot, check_plot
from ops.cli.cmd_eval_answers import answers
from ops.cli.cmd_eval_cost_quality import cost_quality
from ops.cli.cmd_eval_prompts import prompts
from ops.cli.cmd_eval_workflow import workflow
from ops.cli.commands import command, group
from ops.cli.render import note, number, print_json, print_table

if TYPE_CHECKING:
    from ops.evaluate.classifier import Score
    from ops.evaluate.simulation.compare import StrategyComparison


def strategies(
    *,
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario, or a YAML file that describes one.")
    ] = "mixed",
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", metavar="NAME", help="May be repeated; by default all but those for specialists."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Runs of each, with other chance.")] = 1,
    requests: Annotated[
        int | None, typer.Option("--requests", min=1, help="By default as many as the scenario has.")
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies over a scenario, in a simulation: no server, no model, no waiting.

    The production code decides; arrivals and answers are drawn from a seed. Scenarios: one-slow,
    fast-fail, mixed, herd, herd-late, unequal, recovery, cold-start, zipf-keys, long-answers, large (minutes).

        pointsman eval strategies --scenario one-slow --seeds 5
        pointsman eval strategies --scenario fleet.yaml --strategy least_latency --strategy prequal --json
    """
    from ops.evaluate.simulation.compare import compare, fitting
    from ops.evaluate.simulation.scenarios import read

    if plot is not None:
        check_plot(plot)
    chosen = read(scenario)
    if requests is not None:
        chosen = chosen.model_copy(update={"requests": requests})
    name = scenario if scenario.find("/") < 0 else Path(scenario).stem
    found = compare(
        chosen,
        name,
        tuple(dict.fromkeys(strategy or fitting())),
        seeds=seeds,
        done=lambda what, seed: note(f"{what}, seed {seed}"),
    )
    if plot is not None:
        from ops.evaluate.plots import draw_strategies

        draw_strategies(found, plot)
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)


def _show(found: StrategyComparison) -> None:
    def cell(name: str, figure: str, times: float = 1.0, digits: int = 3) -> str:
        mean = found.mean(name, figure)
        if mean is None:
            return "-"
        spread = found.spread(name, figure)
        return f"{mean * times:.{digits}f}" + (f"±{spread * times:.{digits}f}" if found.seeds > 1 else "")

    columns = {
        "p50 s": ("p50_s", 1.0, 3),
        "p99 s": ("p99_s", 1.0, 3),
        "p99.9 s": ("p999_s", 1.0, 3),
        "over 1 s %": ("over_1s", 100.0, 3),
        "failed": ("failed", 1.0, 1),
        "most %": ("max_share", 100.0, 1),
        "crest": ("crest", 1.0, 2),
    }
    first = next(iter(found.runs.values()))[0]
    if "same_model" in first:
        columns["same model %"] = ("same_model", 100.0, 1)
    if "share_after_s" in first:
        columns["share after s"] = ("share_after_s", 1.0, 1)
    note(found.about)
    names = sorted(found.runs, key=lambda name: (found.mean(name, "p99_s") is None, found.mean(name, "p99_s") or 0.0))
    print_table(
        ["strategy", *columns],
        [[name, *(cell(name, *what) for what in columns.values())] for name in names],
        whole=["strategy"],
        right=list(columns),
    )


#: Characters of the longest bar of the curve.
BAR = 40


def classifier(
    *,
    train: Annotated[
        Path, typer.Option("--train", metavar="FILE", help='JSON lines of {"text", "label"}; label null: out of scope.')
    ],
    test: Annotated[Path, typer.Option("--test", metavar="FILE", help="The same, to score on.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            metavar="none|embed|URL",
            help="What turns texts into vectors: nothing, the extra `embed`, or an OpenAI-compatible API.",
        ),
    ] = "none",
    folds: Annotated[
        int, typer.Option("--folds", min=0, max=20, help="Cross-validate on the train file, too, in so many parts.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """How well examples teach the ML classifier to find routes: fit on one file, score on another.

    Shares are of the test file. Accuracy is the share of texts in scope whose likeliest label is right; at a threshold,
    an answer below it is wrong in scope, and right out of scope. The classifier's own threshold is calibrated on the
    train file alone.

        pointsman eval classifier --train train.jsonl --test test.jsonl --encoder embed
    """
    from ops.evaluate.classifier import cross_validate, evaluate
    from ops.evaluate.labelled import read_labelled
    from tasks.routing.classify.encoder import encoder_named

    used = encoder_named(encoder)
    trained, tested = read_labelled(train, field="train"), read_labelled(test, field="test", may_be_one_label=True)
    if not as_json and sys.stderr.isatty():
        note(f"fitting on {len(trained)} texts …")
    score = evaluate(trained, tested, used)
    found = score.as_json()
    if folds:
        found["cross_validation"] = cross_validate(trained, folds, used)
    if as_json:
        print_json(found)
    else:
        _print_score(score, found)


def _print_score(score: Score, found: dict[str, object]) -> None:
    rows = [
        ("texts in scope, out of scope", f"{score.in_scope}, {score.out_of_scope}"),
        ("labels", f"{score.labels}"),
        ("accuracy", number(score.accuracy, ".1%")),
        (f"accuracy at the threshold {score.threshold:.2f}", number(score.accuracy_at_threshold, ".1%")),
        ("out-of-scope recall there", number(score.oos_recall, ".1%")),
        ("fit", f"{score.fit_s:.1f} s"),
        ("one classification, p50", f"{score.p50_ms:.2f} ms"),
    ]
    across = found.get("cross_validation")
    if isinstance(across, dict):
        spread = f"{across['accuracy_mean']:.1%} ± {across['accuracy_sd']:.1%}"
        rows.append((f"accuracy on train, {len(across['accuracy'])} folds", spread))
    print_table(("", "measured"), rows, right=("measured",))
    print()
    shown = [
        (
            f"{point.threshold:.2f}",
            number(point.accuracy, ".1%"),
            number(point.oos_recall, ".1%"),
            "█" * round(BAR * point.accuracy),
        )
        for point in score.curve
        if round(point.threshold * 100) % 10 == 0
    ]
    print_table(("threshold", "accuracy", "oos recall", ""), shown, right=("threshold", "accuracy", "oos recall"))


app = typer.Typer(rich_markup_mode=None)


def evaluate(context: typer.Context) -> None:
    """Measure routing, prompts and workflows on files of your own.

    pointsman eval classifier --train train.jsonl --test test.jsonl
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


group(app, evaluate)
command(app, answers)
command(app, classifier)
command(app, cost_quality, "cost-quality")
command(app, prompts)
command(app, strategies)
command(app, workflow)
