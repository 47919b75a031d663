"""The HTTP API as a Starlette application over one `AsyncProducer`: its routes, and its middleware."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.api.auth import RequestGuard
from producer.api.console import Console
from producer.api.event_routes import EventRoutes
from producer.api.http_request import time_limit
from producer.api.job_routes import JobRoutes
from producer.api.problems import Refused, problem_of
from producer.client import AsyncProducer
from tasks.contract.errors import PointsmanError, Unreachable

__all__ = ["create_app"]

log = structlog.get_logger(__name__)

#: Seconds within which Redis must answer for this server to count as ready.
READY_WITHIN = 1.0


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
            *JobRoutes(producer).routes(),
            *EventRoutes(producer, closing or asyncio.Event()).routes(),
            Route("/", Console(producer).page, methods=["GET"]),
            *more,
        ],
        middleware=[Middleware(_Border, guard=guard)],
        exception_handlers={
            HTTPException: _respond,
            Refused: _respond,
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
