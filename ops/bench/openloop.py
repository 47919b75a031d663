"""Requests that come when they come, whether or not those before are done: an open loop, the same for all contestants.

A closed loop hides what a slow model does: while it waits, it asks less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import numpy as np

#: Seconds: half the shortest answer of the scenarios.
TOO_LATE_S = 0.05


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """Seconds from the beginning: a Poisson process of `rate` a second."""
    chance, now, found = Random(f"{seed} arrivals"), 0.0, []  # noqa: S311 - the seed is no secret
    for _ in range(count):
        now += chance.expovariate(rate)
        found.append(now)
    return found


async def paced(
    moments: Sequence[float], one: Callable[[int, float], Coroutine[Any, Any, Any]]
) -> tuple[list[Any], list[float]]:
    """Call ``one(number, due)`` at each of `moments` and await them all; `due` is the loop's clock at that moment.

    Returns what they returned, and by how many seconds each began late: as long as the loop had other things to do.
    """
    loop = asyncio.get_running_loop()
    begin = loop.time()
    running: list[asyncio.Task[Any]] = []
    late: list[float] = []

    async def begun(number: int, due: float) -> Any:
        late.append(max(0.0, loop.time() - due))
        return await one(number, due)

    for number, moment in enumerate(moments):
        await asyncio.sleep(max(0.0, begin + moment - loop.time()))
        running.append(loop.create_task(begun(number, begin + moment)))
    return list(await asyncio.gather(*running)), late


def summarize(latencies: Sequence[float | None], late: Sequence[float]) -> dict[str, Any]:
    """Percentiles of those that were answered, the share of all that took over a second or failed, and failures.

    ``late_p99_s``: one request in a hundred began later than that. Above `TOO_LATE_S` it is the machine that was
    measured, not the contestant.
    """
    good = np.array([seconds for seconds in latencies if seconds is not None])
    shares = {"p50_s": 50, "p95_s": 95, "p99_s": 99, "p999_s": 99.9}
    found: dict[str, Any] = {name: float(np.percentile(good, share)) for name, share in shares.items() if good.size}
    failed = len(latencies) - int(good.size)
    slow = int((good > 1.0).sum()) + failed
    return {
        **found,
        "requests": len(latencies),
        "failed": failed,
        "over_1s": slow / len(latencies),
        "late_p99_s": float(np.percentile(late, 99)),
    }
