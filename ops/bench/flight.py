"""How many calls one worker process holds at once: memory, and how late its event loop runs meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from ops.bench.bench_fleet import BenchFleet, MockModel
from ops.bench.meter import Meter
from ops.bench.process import bench_folder, until
from ops.bench.report import Figure, Report, Round
from ops.bench.rounds import Size
from worker.loop import quantile

#: `calls` are in flight all at once, in each round. The latency must leave time to send them all.
FULL = Size(calls=2000, rounds=3, latency=5.0)
QUICK = Size(calls=20, rounds=1, latency=1.5)
#: Seconds between two looks at the worker's memory.
GLANCE = 0.1


async def measure(size: Size) -> Report:
    lags: list[dict[str, float]] = []
    rounds: list[Round] = []
    async with bench_folder() as (ends, folder):
        mock = await ends.enter_async_context(MockModel(folder, latency=size.latency))
        models = {"model": size.calls}
        fleet = await ends.enter_async_context(BenchFleet(folder / "ours", mock, models, workers=()))
        lag_file = folder / "lag.json"
        await fleet.start_worker("model", {"POINTSMAN_LAG_FILE": str(lag_file)})
        await until(lag_file.exists, "the worker's first measurement of its loop")
        await fleet.run(min(50, size.calls), model="model")
        for _ in range(size.rounds):
            before = _lag(lag_file)
            rounds.append(await _round(fleet, mock, size.calls))
            lags.append(_difference(before, await _newer(lag_file, before)))
    report = Report(
        "flight",
        f"{size.calls} calls of {size.latency:g} s at once in one worker process",
        {"calls": size.calls, "rounds": size.rounds, "latency_s": size.latency},
        {"ours": f"one worker process, -c {size.calls}"},
        {"ours": rounds},
        details={"lag_ms": lags},
    )
    peak = min(one.peak_in_flight for one in rounds)
    report.figures = [
        Figure(
            "calls open at once", peak, unit="calls", must=size.calls, rounds=[one.peak_in_flight for one in rounds]
        ),
        Figure("memory of the worker", max(one.rss_mb["worker"] for one in rounds), unit="MB", must=250, higher=False),
        Figure("lag of its loop, p50", max(lag["p50"] for lag in lags), unit="ms"),
        Figure("lag of its loop, p99", max(lag["p99"] for lag in lags), unit="ms", must=50, higher=False),
        Figure("lag of its loop, longest", max(lag["max"] for lag in lags), unit="ms"),
        report.unanswered("calls that did not succeed", "calls"),
    ]
    return report


async def _round(fleet: BenchFleet, mock: MockModel, calls: int) -> Round:
    await mock.reset()
    pids = fleet.pids("model")
    meter, worker = Meter(pids), psutil.Process(pids["worker"])
    running = asyncio.ensure_future(fleet.run(calls, model="model"))
    most = 0
    while not running.done():
        most = max(most, worker.memory_info().rss)
        await asyncio.wait({running}, timeout=GLANCE)
    wall, cpu = meter.stop(calls)
    return Round(
        calls=calls,
        answered=running.result(),
        wall_s=wall,
        cpu_ms=cpu,
        rss_mb={"worker": most / 1e6},
        peak_in_flight=(await mock.stats())["peak_in_flight"],
    )


def _lag(file: Path) -> Mapping[str, Any]:
    return dict(json.loads(file.read_text()))


async def _newer(file: Path, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The next reading that was written after now: the last second of the round is in it."""
    now = _lag(file)["samples"]
    await until(lambda: _lag(file)["samples"] > max(now, before["samples"]), "the next measurement of the loop")
    return _lag(file)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    counts = [late - early for early, late in zip(before["counts"], after["counts"], strict=True)]
    return {"p50": quantile(counts, 0.5), "p99": quantile(counts, 0.99), "max": quantile(counts, 1.0)}
