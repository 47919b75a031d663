"""Our clients against the providers' servers, each call on an event loop of its own, and what every client must do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import yaml

from tasks.contract.errors import ModelError
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.loading.load import parse
from tests.providers.serving import Provider
from worker.models import Clients

#: Seconds; generous, since only calls that are to fail last so long.
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
    with mock.patch.dict(os.environ, {"TEST_KEY": "sk-test"}):
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


def check_error(url: str, provider: str, case: str, error: tuple[type[ModelError], int, float | None]) -> None:
    """The call fails with exactly this type, status and `retry_after`, and does not quote the prompt."""
    kind, status, wait = error
    with pytest.raises(kind) as caught:
        ask(url, provider, case)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert getattr(caught.value, "retry_after", None) == wait
    assert "secret" not in str(caught.value)


def check_stream_error(url: str, provider: str, case: str, kind: type[ModelError], words: str) -> None:
    """The stream fails with this error, which does not quote the prompt."""
    with pytest.raises(kind, match=words) as caught:
        follow(url, provider, case)
    assert "secret" not in str(caught.value)


def check_leaving(app: Provider, url: str, provider: str, first: str) -> None:
    """A client that leaves a stream after its `first` piece closes the connection, though the clients stay open."""
    app.left.clear()

    async def leave() -> None:
        async with clients(url, provider) as made:
            stream = made.of("m").stream(request_of("stalls"))
            async with aclosing(stream) as pieces:  # type: ignore[type-var]
                assert await anext(pieces) == first
            assert await asyncio.to_thread(app.left.wait, 20)

    asyncio.run(leave())
