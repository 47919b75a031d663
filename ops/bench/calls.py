"""A durable call through its queue: what the worker of a model spends on it, beside peers on the same work.

Each contestant takes a message from a queue in a Valkey of its own, asks the same mock model over HTTP and writes the
outcome down before it acknowledges. Ours are jobs that name their model; router and Valkey are counted separately.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from ops.bench.bench_fleet import CHUNK, GLANCE, PATIENCE, BenchFleet, MockModel, valkey_server
from ops.bench.process import bench_folder, driven, serving
from ops.bench.report import Figure, Report, worker_ms
from ops.bench.rounds import Contestant, Size, play
from tasks.contract.errors import PointsmanError

FULL = Size(calls=2000, rounds=5, levels=(400,))
QUICK = Size(calls=30, rounds=1, levels=(10,), latency=0.02)
#: Celery's threads: past this the interpreter lock makes them slower, not faster.
THREADS = 100


async def measure(size: Size) -> Report:
    in_flight = size.levels[0]
    async with bench_folder() as (ends, folder):
        mock = await ends.enter_async_context(MockModel(folder, latency=size.latency))
        contestants = await asyncio.gather(
            _ours(ends, folder, mock, in_flight),
            _celery(ends, folder, mock, min(THREADS, in_flight)),
            _taskiq(ends, folder, mock, in_flight, "list"),
            _taskiq(ends, folder, mock, in_flight, "stream"),
            _bare(ends, mock, in_flight),
        )
        warm_up = min(max(in_flight, size.calls // 10), size.calls)
        rounds = await play(contestants, mock, calls=size.calls, rounds=size.rounds, warm_up=warm_up)
    report = Report(
        "calls",
        f"A durable call on a model that takes {size.latency * 1000:g} ms: CPU (user and system) a call",
        {"calls": size.calls, "rounds": size.rounds, "in_flight": in_flight, "latency_s": size.latency},
        {contestant.name: contestant.settings for contestant in contestants},
        rounds,
    )
    report.figures = _figures(report)
    return report


def _figures(report: Report) -> Sequence[Figure]:
    better = min(("taskiq-list", "taskiq-stream"), key=lambda name: report.median_of(name, worker_ms))
    return [
        report.ratio("worker CPU of Celery's threads over ours", "celery-threads", "ours", worker_ms, must=5, goal=7),
        report.ratio(
            f"worker CPU of ours over {better}", "ours", better, worker_ms, must=1.0, goal=0.7, higher=False
        ),
        report.ratio("worker CPU of ours over no queue at all", "ours", "bare", worker_ms),
        report.unanswered("calls that were not answered", "calls"),
    ]  # fmt: skip


async def _ours(ends: AsyncExitStack, folder: Path, mock: MockModel, in_flight: int) -> Contestant:
    fleet = await ends.enter_async_context(BenchFleet(folder / "ours", mock, {"model": in_flight}))
    return Contestant(
        "ours",
        f"one worker process, -c {in_flight}, task events on, ledger and results in Valkey",
        lambda calls: fleet.run(calls, model="model"),
        fleet.pids("model"),
    )


async def _celery(ends: AsyncExitStack, folder: Path, mock: MockModel, threads: int) -> Contestant:
    command = ["celery", "-A", "ops.bench.peers.celery_threads", "worker", "-P", "threads", "-c", str(threads)]
    command += ["-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    env = {"BENCH_MODEL_URL": mock.url}
    peer = await ends.enter_async_context(_peer("celery_threads", command, folder / "celery-threads", env))

    async def run_calls(calls: int) -> int:
        ids = await asyncio.to_thread(lambda: [peer.task.delay(number).id for number in range(calls)])
        return await _stored(peer.redis, [f"celery-task-meta-{name}" for name in ids], "result")

    settings = (
        f"threads pool, -c {threads}, prefetch ×4, acks late, one shared httpx.Client, results in Valkey, no events"
    )
    return Contestant("celery-threads", settings, run_calls, peer.pids)


async def _taskiq(ends: AsyncExitStack, folder: Path, mock: MockModel, in_flight: int, kind: str) -> Contestant:
    command = ["taskiq", "worker", "ops.bench.peers.taskiq_calls:broker", "--workers", "1"]
    command += ["--max-async-tasks", str(in_flight), "--log-level", "WARNING"]
    name = f"taskiq-{kind}"
    env = {"BENCH_MODEL_URL": mock.url, "BENCH_TASKIQ": kind}
    peer = await ends.enter_async_context(_peer("taskiq_calls", command, folder / name, env))
    await peer.task.broker.startup()
    ends.push_async_callback(peer.task.broker.shutdown)

    async def run_calls(calls: int) -> int:
        ids: list[str] = []
        for start in range(0, calls, 100):
            sent = await asyncio.gather(*(peer.task.kiq(number) for number in range(start, min(start + 100, calls))))
            ids += [one.task_id for one in sent]
        return await _stored(peer.redis, ids, "return_value")

    settings = f"{kind} broker, one process, --max-async-tasks {in_flight}, uvloop, httpx over aiohttp, results as JSON"
    return Contestant(name, settings, run_calls, peer.pids)


@dataclass(frozen=True, slots=True)
class QueuePeer:
    """The task of a peer that takes its messages from a Valkey of its own, a client of that, and its processes."""

    task: Any
    redis: Redis
    pids: Mapping[str, int]


@asynccontextmanager
async def _peer(module: str, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> AsyncIterator[QueuePeer]:
    name, module = folder.name, f"ops.bench.peers.{module}"
    async with valkey_server(folder) as valkey, Redis.from_url(valkey.url) as redis:
        env = {**env, "BENCH_REDIS_URL": valkey.url}
        command = ["-m", *command]
        async with serving(name, command, folder=folder, env=env, ready_variable="BENCH_READY_FILE") as child:
            # A fresh copy of the module: it reads its address once, when it is imported.
            os.environ.update(env)
            sys.modules.pop(module, None)
            assert child.pid is not None
            yield QueuePeer(importlib.import_module(module).call, redis, {"worker": child.pid, "valkey": valkey.pid})


async def _bare(ends: AsyncExitStack, mock: MockModel, in_flight: int) -> Contestant:
    peer = await ends.enter_async_context(driven("bare", "ops.bench.peers.bare", env={"BENCH_MODEL_URL": mock.url}))
    settings = "no queue: asyncio on uvloop, httpx over aiohttp"
    return Contestant("bare", settings, lambda calls: peer.count(calls, in_flight), {"worker": peer.pid})


async def _stored(redis: Redis, keys: Sequence[str], field: str) -> int:
    """Wait until each key holds a result; returns how many hold the mock's answer in this field."""
    left, found = list(keys), 0
    end = asyncio.get_running_loop().time() + PATIENCE + len(keys) / 10
    while left:
        head, rest = left[:CHUNK], left[CHUNK:]
        values = await redis.mget(head)
        found += sum(value is not None and json.loads(value)[field] == "done" for value in values)
        waiting = [key for key, value in zip(head, values, strict=True) if value is None]
        left = waiting + rest
        if len(waiting) == len(head) or not rest:
            await asyncio.sleep(GLANCE)
        if asyncio.get_running_loop().time() > end:
            raise PointsmanError(f"{len(left)} of {len(keys)} results are missing")
    return found
