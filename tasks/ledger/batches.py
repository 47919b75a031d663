"""Batches: which jobs came from which file. A batch is a list of ids; its jobs are in the ledger like all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.ledger.store import Store

_INDEX = "pm:{fleet}:batches"


@dataclass(frozen=True, slots=True)
class Batch:
    """`schedule` is empty for a batch that was submitted by hand; `error` says why reading its file stopped."""

    id: str
    file: str
    schedule: str
    created_at: float
    error: str
    jobs: tuple[str, ...]


class Batches:
    """Each method is one round trip and may raise `Unreachable`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open(self, batch: str, *, file: str, schedule: str, at: float, keep_seconds: int) -> None:
        """Note a batch before its first job; safe to repeat."""
        key = f"pm:{{{batch}}}:batch"
        await self._store.run(
            ("HSET", key, "file", file, "schedule", schedule, "created_at", at),
            ("EXPIRE", key, keep_seconds),
            ("ZADD", _INDEX, at, batch),
            ("ZREMRANGEBYRANK", _INDEX, 0, -1001),
        )

    async def add(self, batch: str, jobs: Sequence[str], *, keep_seconds: int) -> None:
        """Note jobs of a batch; safe to repeat, the order in which they were first added stays."""
        key = f"pm:{{{batch}}}:batch-jobs"
        first = await self._store.run(("ZCARD", key))
        flat = [item for place, job in enumerate(jobs, start=int(first[0])) for item in (place, job)]
        await self._store.run(("ZADD", key, "NX", *flat), ("EXPIRE", key, keep_seconds))

    async def fail(self, batch: str, error: str) -> None:
        await self._store.run(("HSET", f"pm:{{{batch}}}:batch", "error", error))

    async def read(self, batch: str) -> Batch | None:
        fields, jobs = await self._store.run(
            ("HMGET", f"pm:{{{batch}}}:batch", "file", "schedule", "created_at", "error"),
            ("ZRANGE", f"pm:{{{batch}}}:batch-jobs", 0, -1),
        )
        file, schedule, created_at, error = fields
        if file is None:
            return None
        return Batch(batch, file, schedule, float(created_at), error or "", tuple(jobs))

    async def recent(self, most: int = 20) -> list[str]:
        """The ids of the latest batches, newest first."""
        (ids,) = await self._store.run(("ZRANGE", _INDEX, 0, most - 1, "REV"))
        return list(ids)
