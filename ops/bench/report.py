"""The report of a benchmark: rounds of several contestants, the figures made of them, as text and as JSON.

A figure that compares two contestants is the median of the ratios within each round, so that a machine that is slow
for a while is slow for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ops.bench.meter import machine

#: The kernel counts the CPU of a process in steps of this.
CPU_STEP_MS = 10.0


@dataclass(frozen=True, slots=True)
class Round:
    """One contestant's calls (or jobs, messages, parts) in one round. CPU in ms per call, by role; memory in MB."""

    calls: int
    #: How many of them ended as they should.
    answered: int
    wall_s: float
    cpu_ms: Mapping[str, float]
    rss_mb: Mapping[str, float] = field(default_factory=dict)
    #: Calls that the model server had open at once.
    peak_in_flight: int = 0

    @property
    def per_s(self) -> float:
        return self.answered / self.wall_s

    @property
    def cpu_ms_total(self) -> float:
        return sum(self.cpu_ms.values())


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with what it must reach and what would be good. `higher` says which way is better."""

    name: str
    value: float
    unit: str = "×"
    must: float | None = None
    goal: float | None = None
    higher: bool = True
    #: The value in each round.
    rounds: Sequence[float] = ()

    @property
    def verdict(self) -> str:
        if self.must is None:
            return ""
        if self.goal is not None and self._reaches(self.goal):
            return "goal"
        return "must" if self._reaches(self.must) else "missed"

    def _reaches(self, bound: float) -> bool:
        return self.value >= bound if self.higher else self.value <= bound


@dataclass(slots=True)
class Report:
    """`contestants` say what they are, with their settings; `rounds` hold what each did, in the same order."""

    benchmark: str
    about: str
    settings: Mapping[str, Any]
    contestants: Mapping[str, str]
    rounds: Mapping[str, Sequence[Round]]
    figures: Sequence[Figure] = ()
    #: What else was found, as the benchmark says.
    details: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=machine)

    def median_of(self, name: str, value: Callable[[Round], float]) -> float:
        return median(value(one) for one in self.rounds[name])

    def unanswered(self, name: str, unit: str) -> Figure:
        """How many calls of all contestants did not end as they should."""
        missing = sum(one.calls - one.answered for rounds in self.rounds.values() for one in rounds)
        return Figure(name, missing, unit, must=0, higher=False)

    def ratio(self, title: str, over: str, under: str, value: Callable[[Round], float], **bounds: Any) -> Figure:
        """`value` of contestant `over` divided by that of `under`, round by round."""
        # What is less than one step of the kernel's count, as in a smoke run, is taken for one step.
        pairs = [
            value(a) / (value(b) or CPU_STEP_MS / b.calls)
            for a, b in zip(self.rounds[over], self.rounds[under], strict=True)
        ]
        return Figure(title, median(pairs), rounds=pairs, **bounds)

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "about": self.about,
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "contestants": {
                name: {
                    "settings": self.contestants[name],
                    "rounds": [asdict(one) for one in rounds],
                    "median": _medians(rounds),
                }
                for name, rounds in self.rounds.items()
            },
            "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures],
            "details": dict(self.details),
        }

    def lines(self) -> list[str]:
        """For people, in a terminal."""
        roles = list(dict.fromkeys(role for rounds in self.rounds.values() for role in rounds[0].cpu_ms))
        head = [self.benchmark, "calls", "a second", *(f"{role} ms" for role in roles), "CPU ms", "MB"]
        rows = [head]
        for name, rounds in self.rounds.items():
            found = _medians(rounds)
            cells = [f"{found['cpu_ms'][role]:.3f}" if role in found["cpu_ms"] else "-" for role in roles]
            memory = f"{max(found['rss_mb'].values()):.0f}" if found["rss_mb"] else "-"
            answered = str(sum(one.answered for one in rounds))
            rows.append([name, answered, f"{found['per_s']:.0f}", *cells, f"{found['cpu_ms_total']:.3f}", memory])
        lines = [self.about, "", *_aligned(rows), ""]
        lines += [_format(figure) for figure in self.figures]
        lines += ["", *(f"  {name}: {text}" for name, text in self.contestants.items()), ""]
        known = (f"{name} {value}" for name, value in self.machine.items() if value is not None)
        return [*lines, ", ".join(known)]


def worker_ms(one: Round) -> float:
    """The CPU of the worker in ms per call."""
    return one.cpu_ms["worker"]


def _medians(rounds: Sequence[Round]) -> dict[str, Any]:
    roles, kept = list(rounds[0].cpu_ms), list(rounds[0].rss_mb)
    return {
        "per_s": median(one.per_s for one in rounds),
        "cpu_ms": {role: median(one.cpu_ms[role] for one in rounds) for role in roles},
        "cpu_ms_total": median(one.cpu_ms_total for one in rounds),
        "rss_mb": {role: median(one.rss_mb[role] for one in rounds) for role in kept},
    }


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _format(figure: Figure) -> str:
    goal = figure.must if figure.goal is None else figure.goal
    bounds = "" if figure.must is None else f"  (must {figure.must:g}, goal {goal:g})"
    return f"{figure.name}: {figure.value:.2f} {figure.unit}{bounds}  {figure.verdict}".rstrip()


def draw(report: Report, file: Path) -> None:
    """Draw the CPU of a call by role, a bar a contestant, with the spread of rounds; its ending says the format."""
    from matplotlib.figure import Figure as Canvas  # its canvas needs no display

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
