"""Measures how late an event loop runs, and writes it to a file once a second. For benchmarks and diagnosis.

A loop that is busy with one thing delays every call and every heartbeat of the process; this measurement shows it.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from tasks.contract.atomic_file import write_at_once

__all__ = ["BOUNDS_MS", "measure_loop_lag", "quantile"]

#: Seconds between two measurements.
INTERVAL = 0.01
#: Measurements between two writings of the file: a second's.
WRITE_EVERY = 100
#: Upper bounds of the histogram in milliseconds: 0.1 ms to 38 s, each a tenth above the one before.
BOUNDS_MS = tuple(round(0.1 * 1.1**step, 4) for step in range(136))


async def measure_loop_lag(file: Path) -> None:
    """Measure until cancelled.

    The file is a JSON object: `counts` of measurements since the start, one for each of `bounds_ms` and one above them,
    and made of these `samples`, `p50_ms`, `p99_ms` and `max_ms`. For a period, subtract the `counts` of two readings.
    """
    loop = asyncio.get_running_loop()
    counts = [0] * (len(BOUNDS_MS) + 1)
    longest = 0.0
    measured = 0
    while True:
        due = loop.time() + INTERVAL
        try:
            await asyncio.sleep(INTERVAL)
        except asyncio.CancelledError:
            _write(file, counts, longest)
            raise
        late = max(0.0, 1000 * (loop.time() - due))
        counts[bisect_left(BOUNDS_MS, late)] += 1
        longest = max(longest, late)
        measured += 1
        if measured % WRITE_EVERY == 0:
            _write(file, counts, longest)


def quantile(counts: Sequence[int], share: float) -> float:
    """The upper bound in ms below which this `share` of the measurements lies; 0 without measurements."""
    left = share * sum(counts)
    if left == 0:
        return 0.0
    for bound, count in zip(BOUNDS_MS, counts, strict=False):
        left -= count
        if left <= 0:
            return bound
    return float("inf")


def _write(file: Path, counts: Sequence[int], longest: float) -> None:
    fields = {
        "samples": sum(counts),
        "p50_ms": quantile(counts, 0.5),
        "p99_ms": min(quantile(counts, 0.99), round(longest, 3)),
        "max_ms": round(longest, 3),
        "bounds_ms": BOUNDS_MS,
        "counts": counts,
    }
    write_at_once(file, json.dumps(fields))
