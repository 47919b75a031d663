"""The floor: asyncio and httpx over aiohttp on uvloop, no queue, nothing kept. Reads orders from stdin."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

from ops.bench.process import answer, orders

#: What every contestant asks; the jobs of ours make the same body.
REQUEST: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "some work to be done"}]}


def client() -> httpx.AsyncClient:
    """A client over the transport that stays flat at thousands of connections, as in `worker.models.http`."""
    limits = httpx.Limits(max_connections=0, max_keepalive_connections=None, keepalive_expiry=30)
    return httpx.AsyncClient(
        base_url=os.environ["BENCH_MODEL_URL"],
        transport=AiohttpTransport(limits=limits, trust_env=False),
        timeout=60,
    )


def content_of(response: httpx.Response) -> str:
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


async def run_calls(calls: int, in_flight: int, one: Any) -> int:
    """Await ``one()`` `calls` times, `in_flight` at once; returns how many gave the mock's answer."""
    left = iter(range(calls))
    good = 0

    async def worker() -> None:
        nonlocal good
        for _ in left:
            # Not in one step: the sum would be that of before the wait.
            text = await one()
            good += text == "done"

    await asyncio.gather(*(worker() for _ in range(min(in_flight, calls))))
    return good


async def _run(http: httpx.AsyncClient, calls: int, in_flight: int) -> int:
    async def one() -> str:
        return content_of(await http.post("/v1/chat/completions", json=REQUEST))

    return await run_calls(calls, in_flight, one)


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        http = client()
        for order in orders():
            answer(answered=runner.run(_run(http, order["calls"], order["in_flight"])))
        runner.run(http.aclose())


if __name__ == "__main__":
    main()
