"""Models over HTTP that answer by a test's script, and record when each request came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.scripted import chat_completion, serve_chat


@dataclass(frozen=True, slots=True)
class Say:
    """One answer: after `delay` seconds a `status`, with a body to match."""

    delay: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    tokens: tuple[int, int] = (10, 10)


@dataclass(slots=True)
class Arrivals:
    """Seconds on the monotonic clock at which requests came, and how many were left before their answer."""

    times: list[float] = field(default_factory=list)
    broken: int = 0
    in_flight: int = 0
    peak: int = 0


class Recorder:
    """Models by name; the answer of each is a function of how often it was asked before."""

    def __init__(self, models: Mapping[str, Callable[[int], Say]]) -> None:
        self._models = models
        self.of = {name: Arrivals() for name in models}
        self.url = ""

    async def complete(self, request: web.Request) -> web.Response:
        name = (await request.json())["model"]
        seen = self.of[name]
        say = self._models[name](len(seen.times))
        seen.times.append(time.monotonic())
        seen.in_flight += 1
        seen.peak = max(seen.peak, seen.in_flight)
        try:
            await asyncio.sleep(say.delay)
        except asyncio.CancelledError:
            seen.broken += 1
            raise
        finally:
            seen.in_flight -= 1
        if say.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=say.status, headers=say.headers)
        return web.json_response(chat_completion(f"from {name}", say.tokens), headers=say.headers)


@contextmanager
def recorder(models: Mapping[str, Callable[[int], Say]]) -> Iterator[Recorder]:
    """Serve these models on a free port, on a thread of its own."""
    recording = Recorder(models)
    with serve_chat(recording.complete) as url:
        recording.url = url
        yield recording
