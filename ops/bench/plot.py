"""A report as a picture: CPU a call by role, one bar a contestant, with the spread of its rounds."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display is needed

from matplotlib.figure import Figure as Canvas

from ops.bench.report import Report

__all__ = ["draw"]


def draw(report: Report, file: Path) -> None:
    """Write `file`, whose ending says the format."""
    names = list(report.rounds)
    roles = list(dict.fromkeys(role for rounds in report.rounds.values() for role in rounds[0].cpu_ms))
    canvas = Canvas(figsize=(8, 1.2 + 0.5 * len(names)), layout="constrained")
    axes = canvas.subplots()
    ends = [0.0] * len(names)
    for role in roles:
        widths = [report.median_of(name, lambda one, role=role: one.cpu_ms.get(role, 0.0)) for name in names]  # type: ignore[misc]
        axes.barh(names, widths, left=ends, label=role)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    totals = [[one.cpu_ms_total for one in report.rounds[name]] for name in names]
    spread = [
        [max(0.0, end - min(found)) for end, found in zip(ends, totals, strict=True)],
        [max(0.0, max(found) - end) for end, found in zip(ends, totals, strict=True)],
    ]
    axes.errorbar(ends, names, xerr=spread, fmt="none", ecolor="black", capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("CPU ms a call (medians; the line spans the rounds)")
    axes.set_title(report.about, fontsize="medium")
    axes.legend(fontsize="small")
    canvas.savefig(file)
