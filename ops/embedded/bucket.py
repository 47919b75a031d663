"""A provider's limit of requests a minute, simulated: a bucket that fills evenly, and the headers that tell of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from starlette.types import Message, Send

__all__ = ["Bucket", "Headers", "tell"]

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

#: Seconds in which an empty bucket fills.
MINUTE = 60.0
#: What divisions lose must not cost a place.
_GRAIN = 1e-6


class Bucket:
    """Holds `rpm` requests when it is full."""

    __slots__ = ("_full_at", "_rpm")

    def __init__(self, rpm: int) -> None:
        self._rpm = rpm
        self._full_at = 0.0  # on the monotonic clock

    def take(self) -> tuple[bool, Headers]:
        """Whether one more request may come by now, and what its answer's headers say, in OpenAI's words."""
        now, step = time.monotonic(), MINUTE / self._rpm
        full_at = max(self._full_at, now) + step
        wait = full_at - now - MINUTE
        if wait <= _GRAIN:
            self._full_at = full_at
        reset = max(0.0, self._full_at - now)
        told = (
            (b"x-ratelimit-limit-requests", str(self._rpm).encode()),
            (b"x-ratelimit-remaining-requests", str(max(0, int((MINUTE - reset) / step + _GRAIN))).encode()),
            (b"x-ratelimit-reset-requests", f"{reset:.3f}s".encode()),
        )
        if wait <= _GRAIN:
            return True, told
        return False, (*told, (b"retry-after-ms", str(int(1000 * wait) + 1).encode()))


async def tell(send: Send, told: Headers, event: Message) -> None:
    """Send an event, with these headers on the start of an answer."""
    if event["type"] == "http.response.start":
        event = {**event, "headers": [*event["headers"], *told]}
    await send(event)
