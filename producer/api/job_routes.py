"""The resource ``/jobs``: submit, read, follow and cancel a job.

- ``POST /jobs``: one job object is answered with 202 ``{"id", "state"}``, an array with an array in the same order:
  all jobs are accepted or, on bad input, none. The status is 200 where no job is new: all were known by their keys.
- The header ``Idempotency-Key`` equals the field ``idempotency_key``, so it goes with one job; each job of an array has
  a key of its own.
- ``DELETE`` cancels and answers 200 with the present state. A job that had ended keeps its state, so a second
  ``DELETE`` is no error.
- ``GET /jobs/{id}/events`` is a job's progress as server-sent events.

Each event carries the whole job as ``GET /jobs/{id}`` returns it, without the outputs until the end, so a client that
missed events has all facts again with the next. The event is ``state`` when the job's state has changed, ``part`` when
only parts have, and ``final`` last, with outputs; then the stream ends. Quick changes come as one event.

``id`` grows with every event. A client that reconnects with ``Last-Event-ID`` gets the present state under a larger
number; one that had the final event already gets 204, which ends the reconnecting of a browser's EventSource.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import structlog
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from producer.api.http_request import ANSWER_WITHIN, idempotency_key_of, job_id_of, read_json, time_limit
from producer.api.problems import ProblemDetails
from producer.client import READ_EVERY, AsyncProducer, JobNotFound
from tasks.accept import Accepted
from tasks.contract.errors import BadInput, PointsmanError
from tasks.contract.job import Job, parse_job
from tasks.contract.result import FINAL, Result

log = structlog.get_logger(__name__)

#: Bytes of an array of jobs, so that one request can't fill the memory; larger ones are batches.
ARRAY_BYTES = 64 * 1024 * 1024
#: Jobs of one array: they are checked on the loop's thread, a thousand in some 50 ms.
ARRAY_JOBS = 10_000
#: JSON may write a letter of two bytes in six (``\\u00e9``), and the fields around a text need some room too. Files
#: come in base64, which writes three bytes in four.
ESCAPED = 3
ROOM = 64 * 1024

#: Seconds that Redis has to accept jobs, and more for each job.
ACCEPT_WITHIN = 10.0
ACCEPT_WITHIN_EACH = 0.01

_HEADERS = {"cache-control": "no-store"}

#: Seconds without an event after which a comment is sent, so that proxies keep the connection.
HEARTBEAT = 15.0
#: Seconds between two reads while parts change all the time: reading 10,000 parts takes some 50 ms.
LEAST_PAUSE, MOST_PAUSE, PARTS_A_SECOND = 0.1, 2.0, 5_000
#: Each subscription holds a connection to Redis. Streams beyond these read the record every second.
MOST_SUBSCRIBED = 128

_STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: Milliseconds after which a browser reconnects.
_GREETING = b"retry: 2000\n\n"


class JobRoutes:
    def __init__(self, producer: AsyncProducer, closing: asyncio.Event) -> None:
        """`closing` is set when the server ends, and ends all streams of events."""
        self._producer = producer
        self._closing = closing
        self._free = asyncio.Semaphore(MOST_SUBSCRIBED)
        payload = producer.config.limits.payload_bytes
        self._one_bytes = ESCAPED * payload + ROOM
        self._array_bytes = max(ARRAY_BYTES, self._one_bytes)

    def routes(self) -> list[Route]:
        return [
            Route("/jobs", self.submit, methods=["POST"]),
            Route("/jobs/{job_id}", self.read_or_cancel, methods=["GET", "DELETE"]),
            Route("/jobs/{job_id}/events", self.events, methods=["GET"]),
        ]

    async def submit(self, request: Request) -> Response:
        data = await read_json(request, one=self._one_bytes, array=self._array_bytes)
        key = idempotency_key_of(request)
        if isinstance(data, list):
            accepted = await self._submit_array(data, key)
            body: Any = [{"id": job.id, "state": job.state} for job in accepted]
        else:
            job = parse_job(data if key is None else _with_key(data, key))
            accepted = await self._accept([job])
            body = {"id": accepted[0].id, "state": accepted[0].state}
        return _reply(202 if any(job.new for job in accepted) else 200, json.dumps(body))

    async def read_or_cancel(self, request: Request) -> Response:
        # One route for both methods: with two, the 405 for another method would list only those of the first.
        return await (self.cancel(request) if request.method == "DELETE" else self.read(request))

    async def read(self, request: Request) -> Response:
        async with time_limit(ANSWER_WITHIN):
            result = await self._producer.result(job_id_of(request))
        return _reply(200, result.model_dump_json())

    async def cancel(self, request: Request) -> Response:
        job_id = job_id_of(request)
        async with time_limit(ANSWER_WITHIN):
            await self._producer.cancel(job_id)
            (state,) = await self._producer.ledger.views.states([job_id])
        if state is None:
            raise JobNotFound(job_id)
        return _reply(200, json.dumps({"id": job_id, "state": state}))

    async def _submit_array(self, data: Sequence[Any], key: str | None) -> list[Accepted]:
        if key is not None:
            raise BadInput(
                "Idempotency-Key", "names one job, and the body is an array", 'give each job its own "idempotency_key"'
            )
        if not data:
            raise BadInput("job", "the array is empty", "send at least one job")
        if len(data) > ARRAY_JOBS:
            raise BadInput(
                "job",
                f"the array has {len(data):,} entries, the limit is {ARRAY_JOBS:,}",
                "send several requests, or a batch",
            )
        jobs = [parse_job(item, at=f"[{place}]") for place, item in enumerate(data)]
        return await self._accept(jobs, at="[0]." if len(jobs) == 1 else "")

    async def _accept(self, jobs: Sequence[Job], *, at: str = "") -> list[Accepted]:
        """`at` is put before an error's field: the producer can't know that a single job came in an array."""
        try:
            # Outside of Redis' time limit: reading documents has a limit of its own.
            jobs = await self._producer.read_files(jobs)
            async with time_limit(ACCEPT_WITHIN + ACCEPT_WITHIN_EACH * len(jobs)):
                return await self._producer.submit_many(jobs)
        except BadInput as error:
            located = BadInput(f"{at}{error.field}", error.problem, error.remedy)
            if self._is_too_large(jobs):
                raise ProblemDetails.of_bad_input(located, status=413, code="too_large") from None
            raise located from None

    def _is_too_large(self, jobs: Sequence[Job]) -> bool:
        limit = self._producer.config.limits.payload_bytes
        jobs = [job for job in jobs if job.files is None]  # files that are left could not be read
        return any(len(job.model_dump_json(exclude_none=True).encode()) > limit for job in jobs)

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
            return Response(headers=_STREAM_HEADERS, media_type="text/event-stream")
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
        self.init_headers(_STREAM_HEADERS)

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


def _with_key(data: Any, key: str) -> Any:
    if not isinstance(data, Mapping):
        return data  # parse_job raises with the reason
    given = data.get("idempotency_key")
    if given is not None and given != key:
        raise BadInput("Idempotency-Key", "differs from idempotency_key in the body", "send one of them")
    return {**data, "idempotency_key": key}


def _reply(status: int, body: str) -> Response:
    return Response(body, status, headers=_HEADERS, media_type="application/json")
