"""The pictures of evaluations. The ending of the file says the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas  # its canvas needs no display

from ops.evaluate.cost_quality.evaluation import Evaluation
from ops.evaluate.simulation.compare import StrategyComparison
from ops.evaluate.simulation.record import SHARES


def draw_curve(found: Evaluation, file: Path) -> None:
    """Write `file`: accuracy over what is spent, and the single models beside it."""
    canvas = Canvas(figsize=(7, 4.5), layout="constrained")
    axes = canvas.subplots()
    if found.curve is not None:
        curve = found.curve
        axes.plot(100 * curve.spent, curve.accuracy, label=f"predicted (APGR {found.apgr or 0:.3f})")
        axes.plot([0, 100], [curve.weak, curve.strong], "--", color="gray", label="by chance (0.5)")
        axes.plot([0, 100], [curve.weak, curve.strong], "o", color="black", markersize=4)
        for percent in (50, 80):
            spent = found.cpt(percent)
            if spent is not None:
                level = curve.weak + percent / 100 * (curve.strong - curve.weak)
                axes.plot([spent, spent], [curve.weak, level], ":", color="gray", linewidth=1)
                axes.annotate(f"CPT({percent}) {spent:.0f} %", (spent, level), (6, -10), textcoords="offset points")
    axes.axhline(found.oracle_accuracy, color="green", linewidth=0.8, label="perfect choice")
    if len(found.accuracy) > 2:
        axes.axhline(found.router_accuracy, color="tab:orange", linewidth=0.8, label="best predicted, at any cost")
    over = "calls to the strong model" if found.axis == "share" else "of the way to the cost of the best single model"
    axes.set_xlabel(f"% {over}")
    axes.set_ylabel(f"accuracy on {found.test_rows} prompts")
    axes.set_title(f"{found.weak} → {found.strong}", fontsize="medium")
    axes.legend(fontsize="small", loc="lower right")
    _save(canvas, file)


def draw_peers(files: Mapping[str, Mapping[str, Sequence[float]]], file: Path) -> None:
    """Write `file`: of each contestant the share of the gap that is recovered, at each percent of strong calls."""
    canvas = Canvas(figsize=(7, 4.5), layout="constrained")
    axes = canvas.subplots()
    for name, curves in files.items():
        for contestant, recovered in curves.items():
            axes.plot(range(len(recovered)), [100 * value for value in recovered], label=f"{name}: {contestant}")
    axes.plot([0, 100], [0, 100], "--", color="gray", label="by chance")
    axes.set_xlabel("% calls to the strong model")
    axes.set_ylabel("% of the performance gap recovered")
    axes.legend(fontsize="small", loc="lower right")
    _save(canvas, file)


def draw_strategies(found: StrategyComparison, file: Path) -> None:
    """Write `file`: the tails of the latencies, and what went where it should not."""
    canvas = Canvas(figsize=(11, 4.6), layout="constrained")
    tails, bars = canvas.subplots(1, 2, width_ratios=(3, 2))
    names = sorted(found.runs, key=lambda name: found.mean(name, "p99_s") or 0.0)
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)}
    _tails(tails, found, names, colours)
    _bars(bars, found, names, colours)
    canvas.suptitle(f"{found.scenario}: {found.about}", fontsize="medium")
    _save(canvas, file)


def _tails(axes: Axes, found: StrategyComparison, names: list[str], colours: dict[str, str]) -> None:
    """How many requests took longer than a time: both axes in decades, so that tails stand apart."""
    left = 1 - np.array(SHARES)
    for place, name in enumerate(names):
        quantiles = np.mean([run["quantiles_s"] for run in found.runs[name]], axis=0)
        axes.plot(quantiles, left, label=name, color=colours[name], linestyle="-" if place < 10 else "--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("seconds to an answer")
    axes.set_ylabel("share of requests that took longer")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="x-small")


def _bars(axes: Axes, found: StrategyComparison, names: list[str], colours: dict[str, str]) -> None:
    values = [100 * (found.mean(name, "over_1s") or 0.0) for name in names]
    spread = [100 * found.spread(name, "over_1s") for name in names]
    axes.barh(names, values, xerr=spread, color=[colours[name] for name in names], ecolor="black", capsize=2)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        failed = found.mean(name, "failed") or 0.0
        text = f" {value:.2f} %" + (f", {failed:g} failed" if failed else "")
        axes.text(value + spread[place], place, text, va="center", fontsize="x-small")
    axes.set_xlim(0, max(values, default=0.0) * 1.35 or 1.0)
    axes.invert_yaxis()
    axes.set_xlabel("over 1 s, % of requests")
    axes.tick_params(axis="y", labelsize="x-small")


def _save(canvas: Canvas, file: Path) -> None:
    # A date in the file, or ids by chance, would make each run another file. Letters as text: a tenth of the size.
    with mpl.rc_context({"svg.hashsalt": "pointsman", "svg.fonttype": "none"}):
        canvas.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
