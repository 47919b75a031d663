"""Does a call cost the same at any size? With few and with many in flight, with few and with many jobs queued."""

from __future__ import annotations

import asyncio

from ops.bench.bench_fleet import PATIENCE, BenchFleet, MockModel
from ops.bench.meter import Meter
from ops.bench.process import bench_folder
from ops.bench.report import Figure, Report, Round, worker_ms
from ops.bench.rounds import Contestant, Size, play
from tasks.contract.errors import PointsmanError

FULL = Size(calls=3000, rounds=3, levels=(50, 100, 400, 1000, 2000))
QUICK = Size(calls=30, rounds=1, levels=(5, 10), latency=0.02)
#: Jobs that wait before the first call starts, in a full run.
BACKLOGS = (1_000, 10_000, 100_000)
#: Calls in flight while a backlog is worked on.
WITH_BACKLOG = 100
#: Seconds a queued job may take to be submitted and routed.
ROUTED_WITHIN = 0.05


async def measure(size: Size) -> Report:
    rounds: dict[str, list[Round]] = {}
    async with bench_folder() as (ends, folder):
        mock = await ends.enter_async_context(MockModel(folder, latency=size.latency))
        backlogs = _backlogs(size)
        models = {f"at-{level}": level for level in size.levels}
        behind = {f"behind-{waiting}": min(WITH_BACKLOG, size.levels[-1]) for waiting in backlogs}
        fleet = await ends.enter_async_context(
            BenchFleet(folder / "ours", mock, models | behind, workers=tuple(models))
        )
        contestants = [_level(fleet, level) for level in size.levels]
        warm_up = min(size.calls, max(size.levels))
        rounds |= await play(contestants, mock, calls=size.calls, rounds=size.rounds, warm_up=warm_up)
        for waiting in backlogs:
            calls = min(size.calls, waiting)
            rounds[f"{waiting} queued"] = [await _with_backlog(fleet, mock, f"behind-{waiting}", waiting, calls)]
    report = Report(
        "growth",
        f"CPU (user and system) a call as the load grows, model of {size.latency * 1000:g} ms",
        {"calls": size.calls, "rounds": size.rounds, "levels": list(size.levels), "latency_s": size.latency},
        dict.fromkeys(rounds, "one worker process"),
        rounds,
    )
    flights = [f"{level} in flight" for level in size.levels]
    queued = [name for name in rounds if name not in flights]
    report.figures = [
        _flatness(report, "worker CPU a call, most over least, by calls in flight", flights),
        _flatness(report, "worker CPU a call, most over least, by jobs queued", queued),
        report.unanswered("calls that did not succeed", "calls"),
    ]
    return report


def _backlogs(size: Size) -> tuple[int, ...]:
    """The backlogs of the full run; a smaller run has smaller ones, as many times its calls."""
    return BACKLOGS if size.calls >= FULL.calls else tuple(size.calls * times for times in (1, 3))


def _flatness(report: Report, name: str, among: list[str]) -> Figure:
    costs = [report.median_of(one, worker_ms) for one in among]
    return Figure(name, max(costs) / max(min(costs), 1e-9), must=1.2, goal=1.2, higher=False, rounds=costs)


def _level(fleet: BenchFleet, level: int) -> Contestant:
    model = f"at-{level}"
    return Contestant(
        f"{level} in flight", f"-c {level}", lambda calls: fleet.run(calls, model=model), fleet.pids(model)
    )


async def _with_backlog(fleet: BenchFleet, mock: MockModel, model: str, waiting: int, calls: int) -> Round:
    """The first `calls` of a queue of `waiting` jobs. They are routed before the worker starts."""
    ids = await fleet.submit(waiting, model=model)
    await _routed(fleet, model, waiting)
    await fleet.start_worker(model)
    # The first few warm the worker up; which are done first is the backlog's order, that of submission.
    warm = calls // 10
    await fleet.wait(ids[:warm])
    await mock.reset()
    meter = Meter(fleet.pids(model))
    good = await fleet.wait(ids[warm:calls])
    answered = (await mock.stats())["answered"]
    # What was done of the others meanwhile was paid for, too.
    wall, cpu = meter.stop(max(answered, 1))
    memory = meter.memory()
    await fleet.stop_worker(model)  # the rest of its queue stays where it is
    return Round(
        calls=calls - warm,
        answered=good,
        wall_s=wall,
        cpu_ms=cpu,
        rss_mb=memory,
        peak_in_flight=(await mock.stats())["peak_in_flight"],
    )


async def _routed(fleet: BenchFleet, model: str, jobs: int) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE + jobs * ROUTED_WITHIN
    while True:
        load = (await fleet.producer.ledger.fleet.snapshot()).models[model]
        if load.waiting + load.singles + load.parts >= jobs:
            return
        if loop.time() > end:
            raise PointsmanError(f"{jobs} jobs were not routed in time: {load}")
        await asyncio.sleep(0.2)
