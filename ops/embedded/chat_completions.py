"""The HTTP surface of simulated models: OpenAI's chat-completions API as an ASGI application.

``POST /v1/chat/completions`` (also streamed), ``GET /v1/models``, ``GET /healthz``, ``GET /stats``. Every body says
``"simulated": true``, every answer has the header ``x-simulated: true``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.embedded.served_model import Completion, Headers, Repetitions, RequestDenied, ServedModel
from tasks.config.simulation import LETTERS_A_TOKEN, Simulation

#: Bytes of a request at most, so that a mistake doesn't fill the memory of the machine.
LARGEST_BODY = 32 * 1024 * 1024

_JSON = b"application/json"
_ERROR_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_FAILURES = {
    "bad_request": (400, "this simulated model refuses every request"),
    "unauthorized": (401, "this simulated model accepts no key"),
    "not_found": (404, "this simulated model pretends not to exist"),
}


class _ClientGone(Exception):
    """The client has closed the connection."""


class SimulatedModels:
    """The ASGI application. It answers completions itself and leaves the rest to Starlette: half the CPU."""

    def __init__(self, models: Mapping[str, Simulation]) -> None:
        self._models = {name: ServedModel(name, simulation) for name, simulation in models.items()}
        self._repetitions = Repetitions()
        self._created = int(time.time())
        self._started = time.monotonic()
        self._serial = 0
        self._rest: ASGIApp = Starlette(
            routes=[
                Route("/v1/models", self._list_models),
                Route("/healthz", self._show_health),
                Route("/stats", self._list_stats),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/chat/completions":
            await self._rest(scope, receive, send)
        elif scope["method"] != "POST":
            await _send_error(send, 405, "ask with POST")
        else:
            await self._complete(receive, send)

    async def _complete(self, receive: Receive, send: Send) -> None:
        try:
            body = await _read_body(receive)
            model = self._find_model(body)
            headers = model.acquire()
        except RequestDenied as denied:
            await _send_error(send, denied.status, str(denied), more=denied.headers)
            return
        except _ClientGone:
            return
        # A reset of the connection needs uvicorn's own `send`, and has no headers.
        if headers and model.simulation.failure != "reset":
            send = partial(_send_with_headers, send, headers)
        try:
            await self._answer(model, body, receive, send)
        except _ClientGone:
            model.errors += 1
        finally:
            model.release()

    def _find_model(self, body: Any) -> ServedModel:
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise RequestDenied(400, "the body must be a JSON object with a model")
        model = self._models.get(body["model"])
        if model is None:
            raise RequestDenied(404, f"the model {body['model']!r} does not exist; GET /v1/models lists those that do")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise RequestDenied(400, "messages must be a list of at least one message")
        if body.get("n") not in (None, 1):
            raise RequestDenied(400, "n must be 1")
        return model

    async def _answer(self, model: ServedModel, body: dict[str, Any], receive: Receive, send: Send) -> None:
        simulation = model.simulation
        draws = self._repetitions.draw(model.name, body)
        delay = simulation.latency.draw(draws.latency)
        if simulation.failure == "never":
            await _pause(None, receive)
        if simulation.outages is not None and simulation.outages.hold(time.monotonic() - self._started):
            model.errors += 1
            await _pause(simulation.outages.after_s, receive)
            await _send_error(send, simulation.error_status, "a simulated outage")
            return
        if draws.error < simulation.error_rate or simulation.failure != "none":
            model.errors += 1
            await _pause(delay, receive)
            await _fail(simulation, receive, send)
            return
        completion = model.complete(body, draws.choice)
        self._serial += 1
        head = {
            "id": f"chatcmpl-simulated-{self._serial}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model.name,
            "simulated": True,
        }
        if body.get("stream"):
            options = body.get("stream_options")
            with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            await _pause(delay, receive)
            await _stream(_make_chunks(head, completion, with_usage=with_usage), simulation.per_token_s, receive, send)
            return
        await _pause(delay + simulation.per_token_s * completion.tokens, receive)
        message = {"role": "assistant", "content": completion.text}
        head["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish}]
        head["usage"] = completion.usage
        await _send(send, 200, json.dumps(head).encode())

    async def _list_models(self, _request: Request) -> JSONResponse:
        models = [
            {"id": name, "object": "model", "created": self._created, "owned_by": "pointsman", "simulated": True}
            for name in self._models
        ]
        return _json_response({"object": "list", "data": models, "simulated": True})

    async def _show_health(self, _request: Request) -> JSONResponse:
        return _json_response({"status": "ok", "simulated": True})

    async def _list_stats(self, _request: Request) -> JSONResponse:
        return _json_response({name: model.stats() for name, model in self._models.items()})


async def _read_body(receive: Receive) -> Any:
    raw = b""
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _ClientGone
        raw += event.get("body", b"")
        more = event.get("more_body", False)
        if len(raw) > LARGEST_BODY:
            raise RequestDenied(413, "the body is too large")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise RequestDenied(400, "the body is not JSON") from None


async def _pause(seconds: float | None, receive: Receive) -> None:
    """Wait, forever for None; raise `_ClientGone` as soon as the client leaves: a real server stops work then."""
    if seconds == 0:
        return
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return
    raise _ClientGone


async def _fail(simulation: Simulation, receive: Receive, send: Send) -> None:
    match simulation.failure:
        case "none":
            await _send_error(send, simulation.error_status, "a simulated error")
        case "html":
            await _send(send, 200, b"<!doctype html><title>Simulated</title><p>Not the API.", kind=b"text/html")
        case "empty":
            await _send(send, 200, b"")
        case "reset":
            # ASGI has no event for a reset. uvicorn's `send` is a method of the object that holds the connection.
            transport = getattr(getattr(send, "__self__", None), "transport", None)
            if transport is None:
                raise ConnectionResetError("a simulated reset")
            transport.abort()
            await _pause(None, receive)
        case failure:
            await _send_error(send, *_FAILURES[failure])


def _make_chunks(head: dict[str, Any], completion: Completion, *, with_usage: bool) -> list[bytes]:
    """Return the events of a streamed answer, one for each of its tokens."""
    head = {**head, "object": "chat.completion.chunk"}
    text = completion.text
    pieces = [text[start : start + LETTERS_A_TOKEN] for start in range(0, len(text), LETTERS_A_TOKEN)]
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces]
    deltas.append(({}, completion.finish))
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]
    if with_usage:
        events.append({**head, "choices": [], "usage": completion.usage})
    return [f"data: {json.dumps(event)}\n\n".encode() for event in events]


async def _stream(events: list[bytes], pause_s: float, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"x-simulated", b"true")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, event in enumerate(events):
        if number:
            await _pause(pause_s, receive)
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _send(send: Send, status: int, body: bytes, *, kind: bytes = _JSON, more: Headers = ()) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"x-simulated", b"true"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, status: int, message: str, *, more: Headers = ()) -> None:
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": None, "code": None}
    if status == 429 and not more:
        more = ((b"retry-after", b"1"),)
    await _send(send, status, json.dumps({"error": error, "simulated": True}).encode(), more=more)


async def _send_with_headers(send: Send, headers: Headers, event: Message) -> None:
    """Send an event; `headers` are added to the start of an answer."""
    if event["type"] == "http.response.start":
        event = {**event, "headers": [*event["headers"], *headers]}
    await send(event)


def _json_response(content: dict[str, Any]) -> JSONResponse:
    return JSONResponse(content, headers={"x-simulated": "true"})
