"""A comparison as a picture: the tails of the latencies, and what went where it should not."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display is needed

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ops.evaluate.simulation.compare import StrategyComparison
from ops.evaluate.simulation.record import SHARES

# The same figures make the same file.
mpl.rcParams["svg.hashsalt"] = "pointsman"
# Letters as text, not as outlines: a tenth of the size.
mpl.rcParams["svg.fonttype"] = "none"


def draw(found: StrategyComparison, file: Path) -> None:
    """Write `file`, whose ending says the format."""
    canvas = Canvas(figsize=(11, 4.6), layout="constrained")
    tails, bars = canvas.subplots(1, 2, width_ratios=(3, 2))
    names = sorted(found.runs, key=lambda name: found.mean(name, "p99_s") or 0.0)
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)}
    _tails(tails, found, names, colours)
    _bars(bars, found, names, colours)
    canvas.suptitle(f"{found.scenario}: {found.about}", fontsize="medium")
    canvas.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


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
