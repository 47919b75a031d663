"""Models over HTTP that answer by a function of the test, and keep everything they were asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

__all__ = ["Asked", "Reply", "Scripted", "chat_completion", "scripted", "serve_chat"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the model received it."""

    model: str
    #: The system message, "" where there is none.
    prompt: str
    #: All messages of the user.
    text: str
    seed: int | None = None
    #: Whether JSON was asked for.
    structured: bool = False
    #: The model's own earlier turns.
    said: str = ""
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes back: a text, or an error's `status`; `held`: nothing, until the client leaves."""

    text: str = ""
    status: int = 200
    held: bool = False
    tokens: tuple[int, int] = (10, 10)
    finish: str = "stop"


Say = Callable[[Asked], "Reply | str"]
HELD = Reply(held=True)


@dataclass
class Scripted:
    """`say` may be changed at any time; what was asked before `forget` is forgotten."""

    say: Say = field(default=lambda _: "yes")
    asked: list[Asked] = field(default_factory=list)
    in_flight: int = 0
    url: str = ""

    def forget(self, say: Say) -> None:
        self.asked = []
        self.say = say

    async def complete(self, request: web.Request) -> web.Response:
        asked = _read(await request.json())
        self.asked.append(asked)
        answer = self.say(asked)
        reply = Reply(answer) if isinstance(answer, str) else answer
        self.in_flight += 1
        try:
            if reply.held:
                await asyncio.Event().wait()
        finally:
            self.in_flight -= 1
        if reply.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=reply.status)
        return web.json_response(chat_completion(reply.text, reply.tokens, reply.finish))


def _read(body: dict[str, Any]) -> Asked:
    texts: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for message in body["messages"]:
        texts[message["role"]].append(message["content"])
    return Asked(
        body["model"],
        "\n".join(texts["system"]),
        "\n".join(texts["user"]),
        body.get("seed"),
        body.get("response_format") is not None,
        "\n".join(texts["assistant"]),
        body.get("max_tokens"),
    )


@contextmanager
def scripted() -> Iterator[Scripted]:
    """Serve any model on a free port, on a thread of its own."""
    models = Scripted()
    with serve_chat(models.complete) as url:
        models.url = url
        yield models


def chat_completion(text: str, tokens: tuple[int, int], finish: str = "stop") -> dict[str, Any]:
    """An answer in OpenAI's form, with its tokens of input and of output."""
    read, written = tokens
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


@contextmanager
def serve_chat(complete: Callable[[web.Request], Awaitable[web.Response]]) -> Iterator[str]:
    """Serve OpenAI's chat completions on a free port, on a thread of its own; yields the base URL.

    `complete` is cancelled when its client leaves.
    """
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    url = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.shutdown(), loop).result(10)
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(70)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
