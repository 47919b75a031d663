"""`pointsman eval cost-quality`: what predicting the good-enough model saves, on graded answers of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson

if TYPE_CHECKING:
    from ops.evaluate.cost_quality.evaluation import Evaluation

__all__ = ["cost_quality"]

#: Characters of a full bar of the sketch.
BAR = 40


def cost_quality(
    *,
    train: Annotated[
        Path, typer.Option("--train", metavar="FILE", help="Graded answers to learn from: CSV or JSON lines.")
    ],
    test: Annotated[Path, typer.Option("--test", metavar="FILE", help="The same, to choose for.")],
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="FILE", help='USD per million tokens, JSON: {"<model>": {"input": 0.1, "output": 0.4}}.'
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--share", min=0, max=1, help="Print settings of cost_quality that send this share past the cheapest model."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curve into this file, .png or .svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn from graded answers which model is good enough, and see what that saves.

    Files have a column `prompt` and one `<model>_correct` a model, from 0 to 1; what calls cost may stand in
    `<model>_cost` (USD a call) or `<model>_price` (USD per million tokens). Of two models: apgr is the average share of
    the gap between them that is recovered, over all shares of calls to the strong one (a coin has 0.5), cpt50 and cpt80
    the percent of calls to the strong one at which 50 and 80 % are recovered. Of more models, the same between the
    cheapest and the best single one, over cost; and the share of what a perfect choice would gain over the best single
    model.

        pointsman eval cost-quality --train graded.csv --test held_out.csv --plot curve.svg
        pointsman eval cost-quality --train graded.jsonl --test held_out.jsonl --prices prices.json --json
    """
    from importlib.util import find_spec

    from ops.cli.render import note, print_json
    from ops.evaluate.cost_quality.evaluation import evaluate
    from tasks.contract.errors import BadInput
    from tasks.routing.quality.outcomes import read_outcomes, read_prices

    if plot is not None:
        if plot.suffix not in {".png", ".svg"}:
            raise BadInput("plot", f"{plot.name} is no name of a picture", "end it in .png or .svg")
        if find_spec("matplotlib") is None:
            raise BadInput("plot", "drawing needs matplotlib", "pip install 'pointsman[bench]'")
    priced = read_prices(prices) if prices is not None else None
    learned, scored = read_outcomes(train, prices=priced), read_outcomes(test, prices=priced)
    found = evaluate(learned, scored, share=share, prices=priced)
    if set(learned.prompts) & set(scored.prompts):
        both = sum(prompt in set(learned.prompts) for prompt in set(scored.prompts))
        note(f"{both} prompts stand in both files: for those the figures say what was remembered, not what was learned")
    if plot is not None:
        from ops.evaluate.cost_quality.curve_plot import draw

        try:
            draw(found, plot)
        except OSError as error:
            raise BadInput("plot", f"{plot} can't be written: {error.strerror}", "name another file") from None
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)


def _show(found: Evaluation) -> None:
    from ops.cli.render import print_table

    said = found.as_json()
    print(f"fitted to {found.train_rows} prompts in {found.fit_s:.1f} s, scored on {found.test_rows}")
    print(f"one prediction takes {found.p50_ms:.2f} ms\n")
    rows = [
        [model, f"{accuracy:.3f}", _usd(found.cost_usd[model] if found.cost_usd else None), _role(found, model)]
        for model, accuracy in found.accuracy.items()
    ]
    rows.append(["best predicted", f"{found.router_accuracy:.3f}", _usd(found.router_cost_usd), ""])
    rows.append(["perfect choice", f"{found.oracle_accuracy:.3f}", "-", ""])
    print_table(["model", "accuracy", "USD a call", ""], rows, whole=["model"], right=["accuracy", "USD a call"])
    print()
    figures = [
        ("apgr", _number(said["apgr"]), "average performance gap recovered; a coin has 0.5"),
        ("cpt50", _number(said["cpt50"], 1), f"percent of {_axis(found)} for half of the gap"),
        ("cpt80", _number(said["cpt80"], 1), f"percent of {_axis(found)} for 80 % of the gap"),
        ("recovered_oracle_gap", _number(said["recovered_oracle_gap"]), "of what a perfect choice gains"),
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
        shown = "-" if recovered is None else f"{'█' * full} {recovered:.0%}"
        lines.append([f"{point['share']:.0%}", f"{point['accuracy']:.3f}", shown])
    return lines


def _axis(found: Evaluation) -> str:
    return "calls to the strong model" if found.axis == "share" else "the way to the cost of the best model"


def _role(found: Evaluation, model: str) -> str:
    roles = {found.weak: "weak" if found.axis == "share" else "cheapest", found.strong: "strong"}
    return roles.get(model, "")


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
