"""Publishing a chord of 1,000 parts: our own messages in pipelines against Celery's ``chord.apply_async``.

Nobody consumes; after each round the lists are read: every part must stand there, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from ops.bench.bench_fleet import valkey_server
from ops.bench.meter import Meter
from ops.bench.process import Driven, bench_folder, driven
from ops.bench.report import Report, Round
from ops.bench.rounds import Size
from ops.embedded.valkey import ValkeyServer

#: `calls` are the parts of one chord, the level says how many chords are sent in a round.
FULL = Size(calls=1000, rounds=5, levels=(5,))
QUICK = Size(calls=30, rounds=2, levels=(1,))


@dataclass(frozen=True, slots=True)
class ChordSender:
    peer: Driven
    valkey: ValkeyServer
    redis: Redis


async def measure(size: Size) -> Report:
    chords = size.levels[0]
    async with bench_folder() as (ends, folder):
        senders = [await ends.enter_async_context(_sender(folder, name)) for name in ("celery", "ours")]
        rounds: dict[str, list[Round]] = {sender.peer.name: [] for sender in senders}
        for number in range(size.rounds + 1):  # the first warms up
            for sender in senders:
                found = await _round(sender, number * chords, chords, size.calls)
                if number:
                    rounds[sender.peer.name].append(found)
    report = Report(
        "publish",
        f"Publishing a chord of {size.calls} parts: CPU (user and system) a part",
        {"parts": size.calls, "chords_in_a_round": chords, "rounds": size.rounds},
        {
            "celery": "chord(group).apply_async() on kombu's Redis transport",
            "ours": "tasks.queue.publisher.Publisher.chord",
        },
        rounds,
    )
    report.figures = [
        report.ratio(
            "publisher CPU of Celery over ours", "celery", "ours", lambda one: one.cpu_ms["publisher"], must=4, goal=7
        ),
        report.unanswered("parts missing", "parts"),
    ]
    return report


@asynccontextmanager
async def _sender(folder: Path, name: str) -> AsyncIterator[ChordSender]:
    async with valkey_server(folder / name) as valkey, Redis.from_url(valkey.url) as redis:
        env = {"BENCH_REDIS_URL": valkey.url, "BENCH_PUBLISH": name}
        async with driven(name, "ops.bench.peers.chords", env=env) as peer:
            yield ChordSender(peer, valkey, redis)


async def _round(sender: ChordSender, first: int, chords: int, parts: int) -> Round:
    meter = Meter({"valkey": sender.valkey.pid})
    spent = (await sender.peer.run(first=first, chords=chords, parts=parts))["cpu_s"]
    calls = chords * parts
    wall, cpu = meter.stop(calls)
    there = await _waiting(sender.redis)
    await sender.redis.flushdb()
    return Round(
        calls=calls,
        answered=there,
        wall_s=wall,
        cpu_ms={"publisher": 1000 * spent / calls, **cpu},
    )


async def _waiting(redis: Redis) -> int:
    """Messages in all lists of the model's queue, whatever their priority."""
    total = 0
    async for key in redis.scan_iter(match="*model.model*", count=1000):
        if await redis.type(key) == b"list":
            total += await redis.llen(key)
    return total
