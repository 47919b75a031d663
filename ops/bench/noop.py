"""A message that asks for nothing: what the transport costs a Celery worker, ours against kombu's own.

Solo pool, acknowledged late, results ignored, no events, default priority. The worker is stopped (SIGSTOP) while the
queue is filled: it is measured at work, not waiting for the producer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from ops.bench.bench_fleet import valkey_server
from ops.bench.process import bench_folder, serving, until
from ops.bench.report import Report, worker_ms
from ops.bench.rounds import Contestant, Size, play

#: `levels` are prefetch multipliers.
FULL = Size(calls=4000, rounds=5, levels=(4, 100))
QUICK = Size(calls=50, rounds=1, levels=(100,))
#: What the project has to reach for each prefetch multiplier: must and goal.
BOUNDS = {4: (2.0, 3.0), 100: (4.0, 5.0)}
#: Seconds for a worker to do one round; stock does some hundred messages a second on a slow machine.
PATIENCE = 300.0


async def measure(size: Size) -> Report:
    async with bench_folder() as (ends, folder):
        noops = [
            await ends.enter_async_context(_noop(folder, transport, prefetch, size.calls))
            for prefetch in size.levels
            for transport in ("stock", "ours")
        ]
        # A whole round warms up: the count file is written after each.
        rounds = await play(noops, None, calls=size.calls, rounds=size.rounds, warm_up=size.calls)
    report = Report(
        "noop",
        "A no-op message through a solo worker: CPU (user and system) a message",
        {"messages": size.calls, "rounds": size.rounds, "prefetch_multipliers": list(size.levels)},
        {contestant.name: contestant.settings for contestant in noops},
        rounds,
    )
    figures = []
    for prefetch in size.levels:
        must, goal = BOUNDS.get(prefetch, (None, None))
        title = f"worker CPU of stock over ours, prefetch ×{prefetch}"
        figures.append(report.ratio(title, f"stock ×{prefetch}", f"ours ×{prefetch}", worker_ms, must=must, goal=goal))
    report.figures = [*figures, report.unanswered("messages missing", "messages")]
    return report


@asynccontextmanager
async def _noop(folder: Path, transport: str, prefetch: int, messages: int) -> AsyncIterator[Contestant]:
    name = f"{transport}-{prefetch}"
    count = folder / f"{name}.count"
    async with valkey_server(folder / name) as valkey, Redis.from_url(valkey.url) as redis:
        env = {
            "BENCH_REDIS_URL": valkey.url, "BENCH_TRANSPORT": transport, "BENCH_PREFETCH": str(prefetch),
            "BENCH_TELL_EVERY": str(messages), "BENCH_COUNT_FILE": str(count),
        }  # fmt: skip
        command = ["-m", "celery", "-A", "ops.bench.peers.celery_noop", "worker", "-P", "solo", "-l", "WARNING"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        async with serving(name, command, folder=folder, env=env, ready_variable="BENCH_READY_FILE") as child:
            pid = child.pid
            assert pid is not None

            async def fill(messages: int) -> None:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.to_thread(_publish, messages, {**env, "BENCH_READY_FILE": os.devnull})

            async def drain(messages: int) -> int:
                before = _read(count)
                os.kill(pid, signal.SIGCONT)
                await until(lambda: _read(count) >= before + messages, f"the end of a round of {name}", within=PATIENCE)
                # What is left unacknowledged would be delivered again: a message counts when it is gone.
                async with asyncio.timeout(PATIENCE):
                    while await redis.hlen("unacked"):  # noqa: ASYNC110 - another process takes them away
                        await asyncio.sleep(0.02)
                return _read(count) - before

            settings = f"{transport} transport, -P solo, prefetch ×{prefetch}"
            pids = {"worker": pid, "valkey": valkey.pid}
            try:
                yield Contestant(f"{transport} ×{prefetch}", settings, drain, pids, prepare=fill)
            finally:
                os.kill(pid, signal.SIGCONT)  # it can't end while it is stopped


def _read(count: Path) -> int:
    """The number in the file; 0 where it isn't there, or is just being written."""
    try:
        return int(count.read_text() or 0)
    except FileNotFoundError:
        return 0


_PUBLISH = """
import sys
from ops.bench.peers.celery_noop import app, noop
with app.producer_or_acquire() as producer:
    for number in range(int(sys.argv[1])):
        noop.apply_async((number,), producer=producer)
"""


def _publish(messages: int, env: dict[str, str]) -> None:
    """In a process of its own, since the module's application is for one transport."""
    subprocess.run([sys.executable, "-c", _PUBLISH, str(messages)], env={**os.environ, **env}, check=True, timeout=120)
