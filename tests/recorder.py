"""A model over HTTP that says exactly what a test tells it to, and remembers when each request came."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Say:
    """One answer: after `delay` seconds a `status`, with a body that fits to it."""

    delay: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    tokens: tuple[int, int] = (10, 10)


@dataclass(slots=True)
class Arrivals:
    """Seconds on the monotonic clock at which requests came; how many broke off before their answer."""

    times: list[float] = field(default_factory=list)
    broken: int = 0
    in_flight: int = 0
    peak: int = 0


class Recorder:
    """Models by name; what each says is a function of how often it was asked before."""

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
        message = {"role": "assistant", "content": f"from {name}"}
        read, written = say.tokens
        body = {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        }
        return web.json_response(body, headers=say.headers)


@contextmanager
def recorder(models: Mapping[str, Callable[[int], Say]]) -> Iterator[Recorder]:
    """Serve these models on a free port, on a thread of its own."""
    recording = Recorder(models)
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", recording.complete)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        recording.url = f"http://{host}:{port}/v1"

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield recording
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(70)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
