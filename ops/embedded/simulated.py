"""Simulated models over HTTP, in OpenAI's chat-completions API: many models, one process, no cost.

What comes back is declared (`tasks.config.simulation`) and marked: every body says ``"simulated": true``, every
answer has the header ``x-simulated: true``. Latency, errors and the choice among answers follow from a hash
of model, messages, seed and how often just that was asked before: a run can be repeated, and yet a retry
may succeed. Tokens are estimated, four letters each.

``POST /v1/chat/completions`` (also streamed), ``GET /v1/models``, ``GET /healthz``, ``GET /stats``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
import time
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from ops.embedded.bucket import Bucket, Headers, tell
from ops.embedded.ready import add_ready_options, announce, is_loopback
from tasks.config.simulation import Simulation, count_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["SimulatedModels", "create_app", "main", "serve"]

#: Inputs whose number of repetitions is remembered; about 10 MB. The oldest are forgotten first.
REMEMBERED_INPUTS = 65_536

#: Bytes a request may have, so that a mistake doesn't eat the memory of the machine.
LARGEST_BODY = 32 * 1024 * 1024

_JSON = b"application/json"
_ERROR_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_FAILURES = {
    "bad_request": (400, "this simulated model refuses every request"),
    "unauthorized": (401, "this simulated model accepts no key"),
    "not_found": (404, "this simulated model pretends not to exist"),
}


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class _Gone(Exception):
    """The client has closed the connection."""


class _Model:
    """One simulated model and its counts."""

    __slots__ = ("bucket", "errors", "in_flight", "name", "peak_in_flight", "requests", "simulation")

    def __init__(self, name: str, simulation: Simulation) -> None:
        self.name = name
        self.simulation = simulation
        self.requests = self.in_flight = self.peak_in_flight = self.errors = 0
        self.bucket = Bucket(simulation.rpm) if simulation.rpm is not None else None

    def stats(self) -> dict[str, int]:
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "errors": self.errors,
        }


class SimulatedModels:
    """The ASGI application. Completions are answered right here, all else goes to Starlette: half the CPU."""

    def __init__(self, models: Mapping[str, Simulation]) -> None:
        self._models = {name: _Model(name, simulation) for name, simulation in models.items()}
        self._asked: dict[bytes, int] = {}
        self._started = int(time.time())
        self._began = time.monotonic()
        self._serial = 0
        self._rest: ASGIApp = Starlette(
            routes=[
                Route("/v1/models", self._list_models),
                Route("/healthz", self._say_healthy),
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
            model = self._check(body)
        except _Refused as refused:
            await _send_error(send, refused.status, str(refused))
            return
        except _Gone:
            return
        model.requests += 1
        simulation = model.simulation
        if simulation.concurrency is not None and model.in_flight >= simulation.concurrency:
            model.errors += 1
            await _send_error(send, 429, f"more than {simulation.concurrency} requests at once")
            return
        allowed, told = model.bucket.take() if model.bucket is not None else (True, ())
        if not allowed:
            model.errors += 1
            await _send_error(send, 429, f"more than {simulation.rpm} requests a minute", more=told)
            return
        model.in_flight += 1
        model.peak_in_flight = max(model.peak_in_flight, model.in_flight)
        try:
            await self._answer(model, body, receive, _telling(send, told, simulation))
        except _Gone:
            model.errors += 1
        finally:
            model.in_flight -= 1

    def _check(self, body: Any) -> _Model:
        """The model that is asked."""
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise _Refused(400, "the body must be a JSON object with a model")
        model = self._models.get(body["model"])
        if model is None:
            raise _Refused(404, f"the model {body['model']!r} does not exist; GET /v1/models lists those that do")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise _Refused(400, "messages must be a list of at least one message")
        if body.get("n") not in (None, 1):
            raise _Refused(400, "n must be 1")
        return model

    async def _answer(self, model: _Model, body: dict[str, Any], receive: Receive, send: Send) -> None:
        simulation = model.simulation
        choice, error, wait = self._draw(model.name, body)
        delay = simulation.latency.draw(wait)
        if simulation.failure == "never":
            await _pause(None, receive)
        if simulation.outages is not None and simulation.outages.hold(time.monotonic() - self._began):
            model.errors += 1
            await _pause(simulation.outages.after_s, receive)
            await _send_error(send, simulation.error_status, "a simulated outage")
            return
        if error < simulation.error_rate or simulation.failure != "none":
            model.errors += 1
            await _pause(delay, receive)
            await _fail(simulation, receive, send)
            return

        prompt, text = _said(body["messages"])
        answer = simulation.answer(model.name, text, choice, prompt=prompt, schema=_schema(body))
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if cut := isinstance(limit, int) and 0 < limit < count_tokens(answer):
            answer = answer[: 4 * limit]
        prompt_tokens = count_tokens("".join(map(_text_of, body["messages"])))
        tokens = count_tokens(answer)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
        self._serial += 1
        head = {
            "id": f"chatcmpl-simulated-{self._serial}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model.name,
            "simulated": True,
        }
        finish = "length" if cut else "stop"
        if body.get("stream"):
            options = body.get("stream_options")
            with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            await _pause(delay, receive)
            await _stream(
                _chunks(head, answer, finish, usage if with_usage else None), simulation.per_token_s, receive, send
            )
            return
        await _pause(delay + simulation.per_token_s * tokens, receive)
        message = {"role": "assistant", "content": answer}
        head["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
        head["usage"] = usage
        await _send(send, 200, json.dumps(head).encode())

    def _draw(self, name: str, body: dict[str, Any]) -> tuple[float, float, float]:
        """Return three numbers in [0, 1): for the answer (the same every time), the error and the latency."""
        key = blake2b(
            json.dumps([name, body["messages"], body.get("seed")], sort_keys=True).encode(), digest_size=16
        ).digest()
        asked = self._asked.pop(key, 0)  # taken out and put in again: the order is that of use
        self._asked[key] = asked + 1
        if len(self._asked) > REMEMBERED_INPUTS:
            del self._asked[next(iter(self._asked))]
        again = blake2b(key, digest_size=16, salt=asked.to_bytes(16, "big")).digest()
        return _share(key[:8]), _share(again[:8]), _share(again[8:])

    async def _list_models(self, _request: Request) -> JSONResponse:
        models = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "pointsman", "simulated": True}
            for name in self._models
        ]
        return _json_response({"object": "list", "data": models, "simulated": True})

    async def _say_healthy(self, _request: Request) -> JSONResponse:
        return _json_response({"status": "ok", "simulated": True})

    async def _list_stats(self, _request: Request) -> JSONResponse:
        return _json_response({name: model.stats() for name, model in self._models.items()})


def create_app(models: Mapping[str, Simulation]) -> SimulatedModels:
    """Return an ASGI application that answers as `models`, by name."""
    return SimulatedModels(models)


def serve(models: Mapping[str, Simulation], *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve `models` until SIGTERM or SIGINT; port 0 takes a free one. To be called from the main thread.

    `ready` is told the base URL (``http://HOST:PORT/v1``) once requests are answered. When the end is
    asked for, open requests are broken off. Raises OSError if the port can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    # Accepted sockets inherit it. Without, a kept connection waits 40 ms between an answer's head and its body.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}/v1"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(url)

    server = Server(
        uvicorn.Config(
            create_app(models),
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=2048,
            timeout_keep_alive=120,  # longer than clients keep idle connections: they are never closed under a request
            timeout_graceful_shutdown=0,
        )
    )

    def end(_signal: int, _frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal that ended it once more: it shall find these, and the exit code be 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with listener:
        server.run(sockets=[listener])


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m ops.embedded.simulated``; the exit code is 0 after a signal, 2 for a mistake in the call."""
    parser = argparse.ArgumentParser(prog="python -m ops.embedded.simulated", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="JSON: name of a model → its simulation")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    add_ready_options(parser)
    options = parser.parse_args(arguments)
    if not is_loopback(options.host):
        parser.error(f"--host {options.host} is not a loopback address; simulated models serve this machine only")
    try:
        models = TypeAdapter(dict[str, Simulation]).validate_json(options.models.read_bytes())
    except (OSError, ValidationError) as error:
        parser.error(f"--models {options.models}: {error}")

    try:
        serve(models, host=options.host, port=options.port, ready=partial(announce, options))
    except OSError as error:
        parser.error(f"--port {options.port}: {error.strerror}")
    return 0


async def _read_body(receive: Receive) -> Any:
    raw = b""
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Gone
        raw += event.get("body", b"")
        more = event.get("more_body", False)
        if len(raw) > LARGEST_BODY:
            raise _Refused(413, "the body is too large")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise _Refused(400, "the body is not JSON") from None


async def _pause(seconds: float | None, receive: Receive) -> None:
    """Wait, without end for None; raise `_Gone` as soon as the client leaves, as a real server stops work then."""
    if seconds == 0:
        return
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return
    raise _Gone


async def _fail(simulation: Simulation, receive: Receive, send: Send) -> None:
    match simulation.failure:
        case "none":
            await _send_error(send, simulation.error_status, "a simulated error")
        case "html":
            await _send(send, 200, b"<!doctype html><title>Simulated</title><p>Not the API.", kind=b"text/html")
        case "empty":
            await _send(send, 200, b"")
        case "reset":
            # ASGI has no word for it. uvicorn's `send` is a method of the object that holds the connection.
            transport = getattr(getattr(send, "__self__", None), "transport", None)
            if transport is None:
                raise ConnectionResetError("a simulated reset")
            transport.abort()
            await _pause(None, receive)
        case failure:
            await _send_error(send, *_FAILURES[failure])


def _chunks(head: dict[str, Any], answer: str, finish: str, usage: dict[str, int] | None) -> list[bytes]:
    """Return the events of a streamed answer, the text cut into its tokens."""
    head = {**head, "object": "chat.completion.chunk"}
    pieces = [answer[start : start + 4] for start in range(0, len(answer), 4)]
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces]
    deltas.append(({}, finish))
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]
    if usage is not None:
        events.append({**head, "choices": [], "usage": usage})
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


def _telling(send: Send, told: Headers, simulation: Simulation) -> Send:
    # What resets the connection needs uvicorn's own `send`, and has no headers.
    return partial(tell, send, told) if told and simulation.failure != "reset" else send


async def _send_error(send: Send, status: int, message: str, *, more: Headers = ()) -> None:
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": None, "code": None}
    if status == 429 and not more:
        more = ((b"retry-after", b"1"),)
    await _send(send, status, json.dumps({"error": error, "simulated": True}).encode(), more=more)


def _json_response(content: dict[str, Any]) -> JSONResponse:
    return JSONResponse(content, headers={"x-simulated": "true"})


def _schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON Schema that the answer shall satisfy, as OpenAI's API tells it."""
    wanted = body.get("response_format")
    told = wanted.get("json_schema") if isinstance(wanted, dict) else None
    schema = told.get("schema") if isinstance(told, dict) else None
    return schema if isinstance(schema, dict) else None


def _said(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """What the model is told as system, and the last thing that the user says to it."""
    system = [message for message in messages if message.get("role") == "system"]
    user = [message for message in messages if message.get("role") == "user"] or messages
    return "\n".join(map(_text_of, system)), _text_of(user[-1])


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _share(digest: bytes) -> float:
    """Return the first 53 bits of `digest`, all that a float holds, as a number in [0, 1)."""
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


if __name__ == "__main__":
    sys.exit(main())
