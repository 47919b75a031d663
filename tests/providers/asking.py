"""Our clients against these servers, each call on an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import yaml

from tasks.contract.job import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.loading.load import parse
from worker.models import Clients

#: Seconds; generous, since nothing waits for it but what is to fail.
TIMEOUT = 30.0
QUESTION = (
    Message(role="system", content="You are brief."),
    Message(role="user", content="my secret text"),
)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@asynccontextmanager
async def clients(url: str, provider: str, **fields: Any) -> AsyncIterator[Clients]:
    """The clients of one model, `m`, at this address."""
    model = {"provider": provider, "base_url": url, "api_key_env": "TEST_KEY", **fields}
    config = {"models": {"m": model}, "routes": {"r": {"models": ["m"]}}, "default_route": "r"}
    made = Clients(parse(yaml.safe_dump(config)))
    try:
        yield made
    finally:
        await made.close()


def request_of(case: str, **fields: Any) -> ModelRequest:
    return replace(ModelRequest(case, QUESTION, TIMEOUT), **fields)


def ask(url: str, provider: str, case: str, *, model: dict[str, Any] | None = None, **fields: Any) -> ModelReply:
    async def go() -> ModelReply:
        async with clients(url, provider, **(model or {})) as made:
            return await made.of("m").complete(request_of(case, **fields))

    return asyncio.run(go())


def follow(
    url: str, provider: str, case: str, *, model: dict[str, Any] | None = None, **fields: Any
) -> tuple[list[str], ModelReply]:
    """The pieces of a streamed answer, and the reply at its end."""

    async def go() -> tuple[list[str], ModelReply]:
        async with clients(url, provider, **(model or {})) as made:
            items = [item async for item in made.of("m").stream(request_of(case, **fields))]
        reply = items.pop()
        assert isinstance(reply, ModelReply)
        return [item for item in items if isinstance(item, str)], reply

    return asyncio.run(go())
