"""What the providers' servers share: uvicorn on a free port, and answers that fail in every way."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from tests.harness import wait_for


@dataclass(frozen=True)
class Answer:
    status: int = 200
    #: JSON, or bytes as they are.
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Chunks of an event stream, instead of a body.
    events: Sequence[bytes] | None = None
    #: Where it stands still until the client leaves: before its head, or after what it has sent.
    stalls: str = ""
    #: Whether the connection is broken off after what was sent.
    breaks: bool = False
    kind: str = "application/json"


@dataclass(frozen=True)
class Request:
    path: str
    query: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Provider:
    """An ASGI application; a subclass says what is answered."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        #: Set when a client has left before its answer was over.
        self.left = threading.Event()

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    @property
    def last(self) -> Request:
        return self.requests[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = b""
        while (message := await receive())["type"] == "http.request":
            raw += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        body = json.loads(raw)
        request = Request(scope["path"], scope["query_string"].decode(), headers, body)
        self.requests.append(request)
        answer = self.answer(request)
        if answer.stalls == "head":
            await self._wait(receive)
            return
        await self._send(answer, send)
        if answer.breaks:
            # ASGI has no word for it. uvicorn's `send` is a method of the object that holds the connection.
            send.__self__.transport.abort()  # type: ignore[attr-defined]
        elif answer.stalls:
            await self._wait(receive)
        elif answer.events is not None:
            await send({"type": "http.response.body", "body": b""})

    async def _send(self, answer: Answer, send: Send) -> None:
        kind = "text/event-stream" if answer.events is not None else answer.kind
        named = {"content-type": kind, **answer.headers}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.events is None:
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            more = bool(answer.breaks or answer.stalls)
            await send({"type": "http.response.body", "body": body, "more_body": more})
            return
        for chunk in answer.events:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)  # each chunk leaves by itself

    async def _wait(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


def sse(*data: Any, end: Sequence[bytes] = (), named: bool = False) -> list[bytes]:
    """Events of these JSON objects; `named` gives each its type as the event's name, as Anthropic does."""
    return [
        (f"event: {item['type']}\n" if named else "").encode() + f"data: {json.dumps(item)}\n\n".encode()
        for item in data
    ] + list(end)


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app, lifespan="off", log_level="critical", access_log=False, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_for(lambda: server.started, "start of a provider's server")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
    assert not thread.is_alive()
