"""``GET /jobs/{id}/events``: a job's progress as server-sent events.

Each event carries the whole job as ``GET /jobs/{id}`` returns it, without the outputs until the end, so a client that
missed events has all facts again with the next. The event is ``state`` when the job's state has changed, ``part`` when
only parts have, and ``final`` last, with outputs; then the stream ends. Quick changes come as one event.

``id`` grows with every event. A client that reconnects with ``Last-Event-ID`` gets the present state under a larger
number; one that had the final event already gets 204, which ends the reconnecting of a browser's EventSource.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import structlog
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from producer.api.http_request import ANSWER_WITHIN, job_id_of, time_limit
from producer.client import AsyncProducer, JobNotFound
from tasks.contract.errors import PointsmanError
from tasks.contract.result import FINAL, Result

__all__ = ["EventRoutes"]

log = structlog.get_logger(__name__)

#: Seconds between two reads of the record without an announcement: one may be missed.
READ_EVERY = 1.0
#: Seconds without an event after which a comment is sent, so that proxies keep the connection.
HEARTBEAT = 15.0
#: Seconds between two reads while parts change all the time: reading 10,000 parts takes some 50 ms.
LEAST_PAUSE, MOST_PAUSE, PARTS_A_SECOND = 0.1, 2.0, 5_000
#: Each subscription holds a connection to Redis. Streams beyond these read the record every second.
MOST_SUBSCRIBED = 128

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: Milliseconds after which a browser reconnects.
_GREETING = b"retry: 2000\n\n"


class EventRoutes:
    def __init__(self, producer: AsyncProducer, closing: asyncio.Event) -> None:
        """`closing` is set when the server ends, and ends all streams."""
        self._producer = producer
        self._closing = closing
        self._free = asyncio.Semaphore(MOST_SUBSCRIBED)

    def routes(self) -> list[Route]:
        return [Route("/jobs/{job_id}/events", self.events, methods=["GET"])]

    async def events(self, request: Request) -> Response:
        job_id = job_id_of(request)
        last = _last_id(request.headers.get("last-event-id", ""))
        async with time_limit(ANSWER_WITHIN):
            result = await self._producer.ledger.views.result(job_id, outputs=False)
        if result is None:
            raise JobNotFound(job_id)
        if result.final and last >= _end_id(result):
            return Response(status_code=204)
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type="text/event-stream")
        return _EventStream(self._follow(job_id, last), self._closing)

    async def _follow(self, job_id: str, number: int) -> AsyncGenerator[bytes, None]:
        """The bytes of the stream; `number` is the last id that the client has seen."""
        yield _GREETING
        last: Result | None = None
        sent_at = time.monotonic()
        async with self._announcements(job_id) as channel:
            while True:
                read_at = time.monotonic()
                result = await self._read(job_id)
                if result.final:
                    yield _event(max(number + 1, _end_id(result)), "final", result)
                    return
                if result != last:
                    number += 1
                    sent_at = read_at
                    yield _event(number, "part" if last and last.state == result.state else "state", result)
                elif read_at - sent_at >= HEARTBEAT:
                    sent_at = read_at
                    yield b": still here\n\n"
                last = result
                pause = min(max(result.parts_total / PARTS_A_SECOND, LEAST_PAUSE), MOST_PAUSE)
                await _wait_for_change(channel, read_at + pause)

    async def _read(self, job_id: str) -> Result:
        """The present job, with its outputs once it has ended."""
        views = self._producer.ledger.views
        result = await views.result(job_id, outputs=False)
        if result is not None and result.final:
            result = await views.result(job_id)
        if result is None:
            raise JobNotFound(job_id)
        return result

    @asynccontextmanager
    async def _announcements(self, job_id: str) -> AsyncIterator[Any]:
        """The job's announcements; None when `MOST_SUBSCRIBED` streams listen already."""
        if self._free.locked():
            yield None
            return
        async with self._free, self._producer.ledger.views.announcements(job_id) as channel:
            yield channel


class _EventStream(Response):
    """Sends the items of an iterator until it ends, the client leaves or the server closes."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], closing: asyncio.Event) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._closing = closing
        self.init_headers(_HEADERS)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Tasks of asyncio, since a cancel scope of anyio would also cancel the closing of the subscription.
        sending = asyncio.create_task(self._send_all(send))
        waiting = {
            sending,
            asyncio.create_task(_wait_for_disconnect(receive)),
            asyncio.create_task(self._closing.wait()),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            if not isinstance(error, PointsmanError | RedisError | OSError):
                raise error
            # The client reconnects, and then gets the problem as its answer.
            log.warning("events.broke_off", error=type(error).__name__)
        await send({"type": "http.response.body", "body": b""})

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait_for_change(channel: Any, not_before: float) -> None:
    """Return at once when the job has ended, else not before `not_before` (monotonic)."""
    state = await _next_announcement(channel, READ_EVERY)
    while state is not None and state not in FINAL:
        left = not_before - time.monotonic()
        # With no time left, this takes the announcements that have come already: one read serves all of them.
        state = await _next_announcement(channel, max(left, 0.0))


async def _next_announcement(channel: Any, seconds: float) -> str | None:
    """The announced state; None if there is no announcement within `seconds`."""
    if channel is None:
        await asyncio.sleep(seconds)
        return None
    message = await channel.get_message(timeout=seconds)
    return None if message is None else str(message["data"])


def _event(number: int, name: str, result: Result) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {result.model_dump_json()}\n\n".encode()


def _end_id(result: Result) -> int:
    """The id of the final event: no counter gets there, so it shows whether the client has seen the end."""
    return int((result.ended_at or 0) * 1000)


def _last_id(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else 0
