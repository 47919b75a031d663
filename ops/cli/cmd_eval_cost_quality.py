"""``pointsman eval cost-quality``: the savings of predicting the good-enough model, on graded answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson, Plot, check_plot
from ops.cli.render import note, number, print_json, print_table

if TYPE_CHECKING:
    from ops.evaluate.cost_quality.evaluation import Evaluation

#: Characters of a full bar of the sketch.
BAR = 40


@dataclass(frozen=True, slots=True)
class GradedFiles:
    """The graded answers, and their prices."""

    train: Annotated[
        Path, typer.Option("--train", metavar="FILE", help="Graded answers to learn from: CSV or JSON lines.")
    ]
    test: Annotated[Path, typer.Option("--test", metavar="FILE", help="The same, to choose for.")]
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="FILE", help='USD per million tokens, JSON: {"<model>": {"input": 0.1, "output": 0.4}}.'
        ),
    ] = None


def cost_quality(
    *,
    files: GradedFiles,
    share: Annotated[
        float | None,
        typer.Option(
            "--share", min=0, max=1, help="Print settings of cost_quality that send this share past the cheapest model."
        ),
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Learn from graded answers which model is good enough, and measure the savings.

    Files have a column `prompt` and one `<model>_correct` a model, from 0 to 1; costs may be in `<model>_cost` (USD a
    call) or `<model>_price` (USD per million tokens). For two models: apgr is the average share of the gap between them
    that is recovered, over all shares of calls to the strong one (a coin has 0.5), cpt50 and cpt80 the percent of calls
    to the strong one at which 50 and 80 % are recovered. For more models: the same between the cheapest and the best
    single one, over cost; and the share of the gain of a perfect choice over the best single model.

        pointsman eval cost-quality --train graded.csv --test held_out.csv --plot curve.svg
        pointsman eval cost-quality --train graded.jsonl --test held_out.jsonl --prices prices.json --json
    """
    from ops.evaluate.cost_quality.evaluation import evaluate
    from tasks.routing.quality.outcomes import read_outcomes, read_prices

    if plot is not None:
        check_plot(plot)
    prices = read_prices(files.prices) if files.prices is not None else None
    learned, scored = read_outcomes(files.train, prices=prices), read_outcomes(files.test, prices=prices)
    found = evaluate(learned, scored, share=share, prices=prices)
    both = set(learned.prompts) & set(scored.prompts)
    if both:
        note(f"{len(both)} prompts are in both files: for those the figures show what was remembered, not learned")
    if plot is not None:
        _draw(found, plot)
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)


def _draw(found: Evaluation, plot: Path) -> None:
    from ops.evaluate.plots import draw_curve
    from tasks.contract.errors import BadInput

    try:
        draw_curve(found, plot)
    except OSError as error:
        raise BadInput("plot", f"{plot} can't be written: {error.strerror}", "name another file") from None


def _show(found: Evaluation) -> None:
    figures_json = found.as_json()
    print(f"fitted to {found.train_rows} prompts in {found.fit_s:.1f} s, scored on {found.test_rows}")
    print(f"one prediction takes {found.p50_ms:.2f} ms\n")
    rows = [
        [
            model,
            f"{accuracy:.3f}",
            number(found.cost_usd[model] if found.cost_usd else None, ".6f"),
            _role(found, model),
        ]
        for model, accuracy in found.accuracy.items()
    ]
    rows.append(["best predicted", f"{found.router_accuracy:.3f}", number(found.router_cost_usd, ".6f"), ""])
    rows.append(["perfect choice", f"{found.oracle_accuracy:.3f}", "-", ""])
    print_table(["model", "accuracy", "USD a call", ""], rows, whole=["model"], right=["accuracy", "USD a call"])
    print()
    figures = [
        ("apgr", number(figures_json["apgr"], ".3f"), "average performance gap recovered; a coin has 0.5"),
        ("cpt50", number(figures_json["cpt50"], ".1f"), f"percent of {_axis(found)} for half of the gap"),
        ("cpt80", number(figures_json["cpt80"], ".1f"), f"percent of {_axis(found)} for 80 % of the gap"),
        ("recovered_oracle_gap", number(figures_json["recovered_oracle_gap"], ".3f"), "of what a perfect choice gains"),
        *((f"calibrated {name}", f"{value:.6g}", "") for name, value in (found.calibration or {}).items()),
    ]
    print_table(["figure", "value", ""], figures, whole=["figure"], right=["value"])
    if found.curve is None:
        why = "give prices" if found.cost_usd is None else f"{found.strong} is the best and costs no more"
        print(f"\nno curve between the cheapest and the best model: {why}")
        return
    print(f"\n{found.weak} → {found.strong}, over {_axis(found)}:\n")
    print_table(["share", "accuracy", "of the gap"], _sketch(found), whole=["of the gap"], right=["share", "accuracy"])


def _sketch(found: Evaluation) -> list[list[str]]:
    lines = []
    for point in found.points(11):
        recovered = point["recovered"]
        full = 0 if recovered is None else round(BAR * min(1.25, max(0.0, recovered)))
        bar = "-" if recovered is None else f"{'█' * full} {recovered:.0%}"
        lines.append([f"{point['share']:.0%}", f"{point['accuracy']:.3f}", bar])
    return lines


def _axis(found: Evaluation) -> str:
    return "calls to the strong model" if found.axis == "share" else "the way to the cost of the best model"


def _role(found: Evaluation, model: str) -> str:
    roles = {found.weak: "weak" if found.axis == "share" else "cheapest", found.strong: "strong"}
    return roles.get(model, "")
