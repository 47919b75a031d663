"""``GET /jobs/{id}/events``: a job's progress as server-sent events.

Each event carries the job as ``GET /jobs/{id}`` tells it, without the outputs until the end: whoever missed some knows
all again with the next. ``event: state`` when the job's state is another, ``part`` when only parts have changed,
``final`` last, with outputs; then the stream ends. Quick changes come as one event.

``id`` grows with every event. A client that connects anew, with ``Last-Event-ID``, is told the present truth under a
larger number; one that had the final event already gets 204, which ends the reconnecting of a browser's EventSource.
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

from producer.api.jobs import ANSWER_WITHIN, answering, job_id_of
from producer.client import AsyncProducer, JobNotFound
from tasks.contract.errors import PointsmanError
from tasks.contract.result import FINAL, Result

__all__ = ["EventRoutes"]

log = structlog.get_logger(__name__)

#: Seconds between two looks at the record when no announcement comes: one may be missed.
LOOK_EVERY = 1.0
#: Seconds of silence after which a comment is sent, so that proxies keep the connection.
HEARTBEAT = 15.0
#: Seconds between two looks while parts change all the time: a look at 10,000 parts costs some 50 ms.
LEAST_PAUSE, MOST_PAUSE, PARTS_A_SECOND = 0.1, 2.0, 5_000
#: Each subscription holds a connection to Redis. Streams beyond these look at the record every second instead.
MOST_SUBSCRIBED = 128

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: Milliseconds after which a browser connects anew.
_HELLO = b"retry: 2000\n\n"


class EventRoutes:
    def __init__(self, producer: AsyncProducer, closing: asyncio.Event) -> None:
        """`closing` is set when the server ends: it ends all streams."""
        self._producer = producer
        self._closing = closing
        self._free = asyncio.Semaphore(MOST_SUBSCRIBED)

    def routes(self) -> list[Route]:
        return [Route("/jobs/{job_id}/events", self.events, methods=["GET"])]

    async def events(self, request: Request) -> Response:
        job_id = job_id_of(request)
        last = _last_id(request.headers.get("last-event-id", ""))
        async with answering(ANSWER_WITHIN):
            result = await self._producer.ledger.jobs.result(job_id, outputs=False)
        if result is None:
            raise JobNotFound(job_id)
        if result.final and last >= _end_id(result):
            return Response(status_code=204)
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type="text/event-stream")
        return _EventStream(self._follow(job_id, last), self._closing)

    async def _follow(self, job_id: str, number: int) -> AsyncGenerator[bytes, None]:
        """The bytes of the stream, `number` being the last id the client has seen."""
        yield _HELLO
        last: Result | None = None
        told_at = time.monotonic()
        async with self._announcements(job_id) as channel:
            while True:
                looked_at = time.monotonic()
                result = await self._look(job_id)
                if result.final:
                    yield _event(max(number + 1, _end_id(result)), "final", result)
                    return
                if result != last:
                    number += 1
                    told_at = looked_at
                    yield _event(number, "part" if last and last.state == result.state else "state", result)
                elif looked_at - told_at >= HEARTBEAT:
                    told_at = looked_at
                    yield b": still here\n\n"
                last = result
                pause = min(max(result.parts_total / PARTS_A_SECOND, LEAST_PAUSE), MOST_PAUSE)
                await _change(channel, looked_at + pause)

    async def _look(self, job_id: str) -> Result:
        """The job now, with its outputs once it has ended."""
        jobs = self._producer.ledger.jobs
        result = await jobs.result(job_id, outputs=False)
        if result is not None and result.final:
            result = await jobs.result(job_id)
        if result is None:
            raise JobNotFound(job_id)
        return result

    @asynccontextmanager
    async def _announcements(self, job_id: str) -> AsyncIterator[Any]:
        """The job's announcements, or None when too many listen already."""
        if self._free.locked():
            yield None
            return
        async with self._free, self._producer.ledger.jobs.announcements(job_id) as channel:
            yield channel


class _EventStream(Response):
    """Sends what an iterator brings, until that ends, the client leaves or the server closes."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], closing: asyncio.Event) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._closing = closing
        self.init_headers(_HEADERS)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Tasks of asyncio, not a cancel scope of anyio: that would cancel the closing of the subscription as well.
        sending = asyncio.create_task(self._send_all(send))
        waiting = {sending, asyncio.create_task(_left(receive)), asyncio.create_task(self._closing.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            if not isinstance(error, PointsmanError | RedisError | OSError):
                raise error
            # The client connects anew, and is told then what is wrong.
            log.warning("events.broke_off", error=type(error).__name__)
        await send({"type": "http.response.body", "body": b""})

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})


async def _left(receive: Receive) -> None:
    """Until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _change(channel: Any, not_before: float) -> None:
    """Until there may be news: at once when the job has ended, else not before `not_before` (monotonic)."""
    word = await _word(channel, LOOK_EVERY)
    while word is not None and word not in FINAL:
        left = not_before - time.monotonic()
        # With no time left, this takes what has come already: one look serves all of it.
        word = await _word(channel, max(left, 0.0))


async def _word(channel: Any, seconds: float) -> str | None:
    """The next announcement; None if there is none within `seconds`."""
    if channel is None:
        await asyncio.sleep(seconds)
        return None
    message = await channel.get_message(timeout=seconds)
    return None if message is None else str(message["data"])


def _event(number: int, name: str, result: Result) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {result.model_dump_json()}\n\n".encode()


def _end_id(result: Result) -> int:
    """The id of the final event: no counter gets there, so it tells whether the client has seen the end."""
    return int((result.ended_at or 0) * 1000)


def _last_id(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else 0
