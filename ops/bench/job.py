"""A whole job, from submit to its result: route, call, ledger; beside LiteLLM's Router, which has none of these.

What counts for ours is the CPU of router, workers and Valkey together, task events on, as in production; the producer
is left out, and so are Flower and the HTTP API, which don't run. What counts for LiteLLM is its one process.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from ops.bench.bench_fleet import BenchFleet, MockModel
from ops.bench.process import bench_folder, driven
from ops.bench.report import Report
from ops.bench.rounds import Contestant, Size, play

FULL = Size(calls=2000, rounds=5, levels=(100, 400))
QUICK = Size(calls=30, rounds=1, levels=(10,), latency=0.02)


async def measure(size: Size) -> Report:
    async with bench_folder() as (ends, folder):
        mock = await ends.enter_async_context(MockModel(folder, latency=size.latency))
        starting = [
            start
            for in_flight in size.levels
            for start in (_ours(ends, folder, mock, in_flight), _litellm(ends, mock, in_flight))
        ]
        contestants = await asyncio.gather(*starting)
        warm_up = min(size.calls, max(*size.levels, size.calls // 10))
        rounds = await play(contestants, mock, calls=size.calls, rounds=size.rounds, warm_up=warm_up)
    report = Report(
        "job",
        f"A whole job on a model that takes {size.latency * 1000:g} ms: CPU (user and system) a job",
        {"jobs": size.calls, "rounds": size.rounds, "in_flight": list(size.levels), "latency_s": size.latency},
        {contestant.name: contestant.settings for contestant in contestants},
        rounds,
    )
    ratios = [
        report.ratio(
            f"CPU of LiteLLM's Router over ours, {in_flight} in flight",
            f"litellm {in_flight}", f"ours {in_flight}", lambda one: one.cpu_ms_total, must=2.5, goal=4,
        )
        for in_flight in size.levels
    ]  # fmt: skip
    report.figures = [*ratios, report.unanswered("jobs that did not succeed", "jobs")]
    return report


async def _ours(ends: AsyncExitStack, folder: Path, mock: MockModel, in_flight: int) -> Contestant:
    # Two deployments, as LiteLLM has; the capacity is shared out between them.
    models = {"first": in_flight - in_flight // 2, "second": in_flight // 2}
    fleet = await ends.enter_async_context(BenchFleet(folder / f"ours-{in_flight}", mock, models))
    settings = f"two models, one worker process each, {in_flight} in flight together; classified, least_connections"
    return Contestant(f"ours {in_flight}", settings, lambda jobs: fleet.run(jobs, model=None), fleet.pids())


async def _litellm(ends: AsyncExitStack, mock: MockModel, in_flight: int) -> Contestant:
    env = {"BENCH_MODEL_URL": mock.url, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    name = f"litellm {in_flight}"
    peer = await ends.enter_async_context(driven(name, "ops.bench.peers.litellm_router", env=env))
    settings = (
        f"Router, least-busy, two deployments, {in_flight} in flight, num_retries=0, no callbacks, uvloop, no queue"
    )
    return Contestant(name, settings, lambda calls: peer.count(calls, in_flight), {"litellm": peer.pid})
