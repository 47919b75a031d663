"""The HTTP API as a Starlette application over one `AsyncProducer`, and the process that serves it.

The application has the routes and the middleware; the process has the socket, the signals and the shutdown.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePath
from types import FrameType

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.api.auth import RequestGuard
from producer.api.console import Console
from producer.api.http_request import time_limit
from producer.api.job_routes import JobRoutes
from producer.api.problems import ProblemDetails, problem_of
from producer.client import AsyncProducer
from tasks.config.config import Config
from tasks.contract.errors import ConfigError, PointsmanError, Unreachable
from tasks.loading.load import load

log = structlog.get_logger(__name__)

#: Seconds within which Redis must answer for this server to count as ready.
READY_WITHIN = 1.0
DEFAULT_PORT = 8321

#: Connections that the kernel keeps until we accept them.
BACKLOG = 2048
#: Seconds that an idle connection is kept: longer than clients keep theirs, so none is closed under a request.
KEEP_ALIVE = 120
#: Seconds that open requests have to end at a shutdown.
SHUTDOWN_TIMEOUT = 3


def create_app(
    producer: AsyncProducer,
    guard: RequestGuard,
    *,
    closing: asyncio.Event | None = None,
    more: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application; it closes `producer` when it ends. `closing` ends open event streams, `more` are further routes.

    Call this on the event loop that serves the application.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with producer:
            yield

    async def ready(_request: Request) -> Response:
        async with time_limit(READY_WITHIN):
            await producer.ledger.fleet.now()
        return _status("ready")

    return Starlette(
        routes=[
            Route("/healthz", _healthy, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            *JobRoutes(producer, closing or asyncio.Event()).routes(),
            Route("/", Console(producer).page, methods=["GET"]),
            *more,
        ],
        middleware=[Middleware(_Border, guard=guard)],
        exception_handlers={
            HTTPException: _respond,
            ProblemDetails: _respond,
            PointsmanError: _respond,
            ClientDisconnect: _ignore_disconnect,
        },
        lifespan=lifespan,
    )


class _Border:
    """Middleware that refuses what the guard refuses, and answers unexpected errors without their text."""

    def __init__(self, app: ASGIApp, guard: RequestGuard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._guard.check(scope)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:  # noqa: BLE001 - the last place that can log and answer it
            _log(error, scope)
            if not started:
                await problem_of(error).response()(scope, receive, send)


async def _respond(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status >= 500:
        _log(error, request.scope)
    return problem.response()


async def _ignore_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # the client is gone: the number is nginx' own


def _log(error: BaseException, scope: Scope) -> None:
    """Log the type and place of an error, and the message of our own errors: others may quote a prompt in theirs."""
    route = scope.get("route")
    fields = {"error": type(error).__name__, "method": scope["method"], "route": getattr(route, "path", None)}
    if isinstance(error, Unreachable):
        log.warning("request.unreachable", **fields)
        return
    if isinstance(error, PointsmanError):
        fields["problem"] = str(error)
    frames = [
        f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    log.error("request.failed", **fields, traceback=frames)


async def _healthy(_request: Request) -> Response:
    return _status("ok")


def _status(word: str) -> Response:
    return Response(f'{{"status": "{word}"}}', media_type="application/json", headers={"cache-control": "no-store"})


def serve(
    config_path: Config | Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then end within some seconds; to be called from the main thread.

    Port 0 takes a free one. `ready` is called with the base URL once requests are answered, even without Redis.

    Raises:
        ConfigError: if the configuration is wrong, the address is not available, or other machines can reach the
            address and no API keys are configured.
    """
    config = config_path if isinstance(config_path, Config) else load(config_path)
    family, address = _resolve(host, port)
    guard = RequestGuard.for_address(host, address)
    with _listen(family, address, host, port) as listener:
        asyncio.run(_serve(config, guard, listener, host, ready))


class _Server(uvicorn.Server):
    """Calls `ready` once it answers, and sets `closing` before it shuts down, so that event streams end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], closing: asyncio.Event) -> None:
        super().__init__(config)
        self._ready = ready
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)


async def _serve(
    config: Config, guard: RequestGuard, listener: socket.socket, host: str, ready: Callable[[str], None] | None
) -> None:
    closing = asyncio.Event()
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    settings = uvicorn.Config(
        create_app(AsyncProducer(config), guard, closing=closing),
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",  # our own log has all that uvicorn's would
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )
    server = _Server(settings, lambda: ready(url) if ready else None, closing)

    def end(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn raises the signal that ended it once more. With these handlers the process then ends with exit code 0.
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        await server.serve(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError):
        raise ConfigError(f"--host {host}: is no address of this machine; use 127.0.0.1") from None
    family, _, _, _, address = found[0]
    return family, str(address[0])


def _listen(family: socket.AddressFamily, address: str, host: str, port: int) -> socket.socket:
    # The protocol is named, since asyncio switches Nagle's algorithm off only then; it costs 40 ms a request.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)  # here: a port that another process has bound but not listened on fails only now
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"--port {port}: {_describe(error, host)}") from None
    return listener


def _describe(error: OSError | OverflowError, host: str) -> str:
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return "is in use by another program; choose another, or 0 to take a free one"
        case errno.EACCES | errno.EPERM:
            return "is not for ordinary users; choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; use --host 127.0.0.1"
        case _:
            return f"can't be had ({getattr(error, 'strerror', None) or error}); choose another"
