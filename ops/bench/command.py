"""The options that all benchmarks have: ``python -m ops.bench.calls --quick --json --plot FILE``."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from ops.bench.report import Report
from ops.bench.rounds import Size
from tasks.contract.errors import ConfigError, PointsmanError

__all__ = ["Measure", "execute", "measured", "run", "sized"]

Measure = Callable[[Size], Awaitable[Report]]


def run(name: str, measure: Measure, *, full: Size, quick: Size, arguments: list[str] | None = None) -> int:
    """A benchmark as a program of its own; returns its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m ops.bench.{name}", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--calls", type=int, help=f"calls in a round (default: {full.calls})")
    parser.add_argument("--rounds", type=int, help=f"rounds (default: {full.rounds})")
    parser.add_argument("--level", type=int, action="append", help=f"calls at once (default: {full.levels})")
    parser.add_argument("--latency", type=float, help=f"seconds that the model takes (default: {full.latency})")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--plot", type=Path, help="draw the figures into this file (.png or .svg)")
    options = parser.parse_args(arguments)
    size = sized(
        quick if options.quick else full,
        calls=options.calls, rounds=options.rounds, levels=options.level, latency=options.latency,
    )  # fmt: skip
    try:
        execute(measure, size, as_json=options.json, plot=options.plot)
    except PointsmanError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def sized(
    size: Size,
    *,
    calls: int | None = None,
    rounds: int | None = None,
    levels: list[int] | None = None,
    latency: float | None = None,
) -> Size:
    """`size` with what was asked for."""
    return Size(
        calls=size.calls if calls is None else calls,
        rounds=size.rounds if rounds is None else rounds,
        levels=tuple(levels) if levels else size.levels,
        latency=size.latency if latency is None else latency,
    )


def execute(measure: Measure, size: Size, *, as_json: bool, plot: Path | None) -> Report:
    """Measure, then print and draw.

    Raises:
        ConfigError: for a plot that can't be drawn; it is looked at before anything is measured.
    """
    if plot is not None:
        if plot.suffix not in {".png", ".svg"}:
            raise ConfigError(f"--plot: {plot.name} must end in .png or .svg")
        if find_spec("matplotlib") is None:
            raise ConfigError("--plot needs matplotlib: pip install 'pointsman[bench]'")
    report: Report = asyncio.run(measured(measure, size))
    if plot is not None:
        from ops.bench.plot import draw

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
