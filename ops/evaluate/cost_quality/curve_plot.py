"""Draws the curves of `pointsman eval cost-quality` and of its benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display is needed

from matplotlib.figure import Figure as Canvas

from ops.evaluate.cost_quality.evaluation import Evaluation


def draw(found: Evaluation, file: Path) -> None:
    """Write `file`, whose ending says the format: accuracy over what is spent, and the single models beside it."""
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


def draw_comparison(files: Mapping[str, Mapping[str, Sequence[float]]], file: Path) -> None:
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


def _save(canvas: Canvas, file: Path) -> None:
    # A date in the file, or ids by chance, would make each run another file.
    with mpl.rc_context({"svg.hashsalt": "pointsman"}):
        canvas.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
