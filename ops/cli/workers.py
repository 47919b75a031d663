"""Which worker processes there are: asked of all of them at once, over the broker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

__all__ = ["Worker", "ask_workers", "workers_of"]

#: Seconds in which a worker must answer. Nobody knows how many there are, so it is always waited to the end.
PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process. `slots` are the calls it runs at once, None where it didn't say."""

    name: str
    queues: tuple[str, ...]
    slots: int | None = None


def ask_workers(redis: str, *, timeout: float = PATIENCE) -> list[Worker]:
    """The worker processes that answer within `timeout` seconds. Blocks that long."""
    from tasks.queue.app import make_app

    with make_app("pointsman-cli", redis) as app:
        inspect = app.control.inspect(timeout=timeout)
        # Side by side: each waits until its time is over.
        with ThreadPoolExecutor(2) as threads:
            asked = threads.submit(inspect.active_queues)
            stats: dict[str, Any] = threads.submit(inspect.stats).result() or {}
            queues: dict[str, Any] = asked.result() or {}
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
