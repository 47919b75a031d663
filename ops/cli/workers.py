"""The running worker processes, found by a broadcast over the broker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

__all__ = ["Worker", "find_workers", "workers_of"]

#: Seconds in which a worker must answer. Their number is unknown, so `find_workers` always waits that long.
ANSWER_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. `slots` are the calls it runs at once, None if its answer lacks them."""

    name: str
    queues: tuple[str, ...]
    slots: int | None = None


def find_workers(redis: str, *, timeout: float = ANSWER_TIMEOUT) -> list[Worker]:
    """Return the worker processes that answer within `timeout` seconds. Blocks that long."""
    from tasks.queue.app import make_app

    with make_app("pointsman-cli", redis) as app:
        inspect = app.control.inspect(timeout=timeout)
        # Side by side: each question takes the whole timeout.
        with ThreadPoolExecutor(2) as threads:
            queues_asked = threads.submit(inspect.active_queues)
            stats: dict[str, Any] = threads.submit(inspect.stats).result() or {}
            queues: dict[str, Any] = queues_asked.result() or {}
    return [
        Worker(
            name,
            tuple(queue["name"] for queue in consumed),
            (stats.get(name) or {}).get("pool", {}).get("max-concurrency"),
        )
        for name, consumed in sorted(queues.items())
    ]


def workers_of(queue: str, workers: list[Worker]) -> list[Worker]:
    return [worker for worker in workers if queue in worker.queues]
