"""All benchmarks, one after the other: a JSON document and a plot each, and one page that sums them up."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ops.bench import calls, decision, flight, growth, job, noop, parts, publish, routing, votes
from ops.bench.report import Report, draw
from ops.bench.rounds import Size
from tasks.contract.errors import ConfigError

Measure = Callable[[Size], Awaitable[Report]]


def sized(size: Size, **asked: Any) -> Size:
    """Return `size` with the fields that were asked for; None and an empty list ask for nothing."""
    if asked.get("levels"):
        asked["levels"] = tuple(asked["levels"])
    return replace(size, **{name: value for name, value in asked.items() if value not in (None, [])})


def execute(measure: Measure, size: Size, *, as_json: bool, plot: Path | None) -> Report:
    """Measure, then print and draw.

    Raises:
        ConfigError: for a plot that can't be drawn, before anything is measured.
    """
    if plot is not None and plot.suffix not in {".png", ".svg"}:
        raise ConfigError(f"--plot: {plot.name} must end in .png or .svg")
    report: Report = asyncio.run(measured(measure, size))
    if plot is not None:
        draw(report, plot)
    print(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(report.lines()))
    return report


async def measured(measure: Measure, size: Size) -> Report:
    """Measure; SIGTERM ends it as Ctrl-C does, with all that was started."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await measure(size)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


Benchmark = tuple[Measure, Size, Size]

#: By the name of its module: what measures, the size of a full run, that of a smoke run.
BENCHMARKS: Mapping[str, Benchmark] = {
    module.__name__.rpartition(".")[2]: (module.measure, module.FULL, module.QUICK)
    for module in (noop, calls, job, parts, publish, flight, growth, decision, routing, votes)
}


def run_all(out: Path, *, quick: bool, rounds: int | None, say: Callable[[str], None]) -> list[Report]:
    """Run them all; `out` gets ``<name>.json``, ``<name>.png`` and ``summary.md``, each as soon as it is known."""
    out.mkdir(parents=True, exist_ok=True)
    reports: list[Report] = []
    for name, (measure, full, small) in BENCHMARKS.items():
        size = small if quick else full
        if rounds is not None:
            size = replace(size, rounds=rounds)
        say(f"{name} …")
        report: Report = asyncio.run(measured(measure, size))
        (out / f"{name}.json").write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
        draw(report, out / f"{name}.png")
        reports.append(report)
        (out / "summary.md").write_text(summary(reports), encoding="utf-8")
    return reports


def summary(reports: Sequence[Report]) -> str:
    """A page in Markdown: what each figure must reach, what would be good, what it is."""
    lines = ["# Benchmarks", "", "| benchmark | figure | must | goal | measured | |", "|---|---|---|---|---|---|"]
    for report in reports:
        for figure in report.figures:
            sign = "≥" if figure.higher else "≤"
            must = "" if figure.must is None else f"{sign} {figure.must:g}"
            goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
            value = f"{figure.value:.2f} {figure.unit}"
            lines.append(f"| {report.benchmark} | {figure.name} | {must} | {goal} | {value} | {figure.verdict} |")
    for report in reports:
        lines += ["", f"## {report.benchmark}", "", "```", *report.lines(), "```"]
    return "\n".join(lines) + "\n"
