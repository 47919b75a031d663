"""Run one benchmark: with the size that was asked for, its report printed and drawn."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from ops.bench.report import Report
from ops.bench.rounds import Size
from tasks.contract.errors import ConfigError

__all__ = ["Measure", "execute", "measured", "sized"]

Measure = Callable[[Size], Awaitable[Report]]


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
