"""The ids of jobs and of calls."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

__all__ = ["CallId", "new_id", "ulid"]

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """A new ULID."""
    return ulid(time.time_ns() // 1_000_000, secrets.randbits(80))


def ulid(milliseconds: int, rest: int) -> str:
    """A ULID in lower case: 26 characters, sorted by time, safe in a Redis key and in a URL. `rest` has 80 bits."""
    number = (milliseconds << 80) | rest
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


@dataclass(frozen=True, slots=True)
class CallId:
    """The id of a call and its Celery task id: ``<job>.<index>``, or ``<job>.<index>.<wave>`` in a fan-out."""

    job: str
    index: int
    wave: int | None = None

    def __str__(self) -> str:
        return f"{self.job}.{self.index}" + ("" if self.wave is None else f".{self.wave}")

    @classmethod
    def parse(cls, text: str) -> CallId:
        job, index, *wave = text.split(".")
        return cls(job, int(index), int(wave[0]) if wave else None)
