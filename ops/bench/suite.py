"""All benchmarks, one after the other: a JSON document and a plot each, and one page that sums them up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ops.bench import calls, decision, flight, growth, job, noop, parts, publish, routing, votes
from ops.bench.command import Measure, measured
from ops.bench.plot import draw
from ops.bench.report import Report
from ops.bench.rounds import Size

__all__ = ["BENCHMARKS", "run_all", "summary"]

Benchmark = tuple[Measure, Size, Size]

#: By name: what measures, the size of a full run, that of a smoke run.
BENCHMARKS: Mapping[str, Benchmark] = {
    "noop": (noop.measure, noop.FULL, noop.QUICK),
    "calls": (calls.measure, calls.FULL, calls.QUICK),
    "job": (job.measure, job.FULL, job.QUICK),
    "parts": (parts.measure, parts.FULL, parts.QUICK),
    "publish": (publish.measure, publish.FULL, publish.QUICK),
    "flight": (flight.measure, flight.FULL, flight.QUICK),
    "growth": (growth.measure, growth.FULL, growth.QUICK),
    "decision": (decision.measure, decision.FULL, decision.QUICK),
    "routing": (routing.measure, routing.FULL, routing.QUICK),
    "votes": (votes.measure, votes.FULL, votes.QUICK),
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
