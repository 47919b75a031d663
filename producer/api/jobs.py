"""``POST /jobs``, ``GET /jobs/{id}``, ``DELETE /jobs/{id}``: a job's life over HTTP.

- One job object is answered with 202 ``{"id", "state"}``, an array with an array in the same order: all of them or,
  on bad input, none. 200 instead of 202 says that nothing new was accepted: every job was known by its key.
- ``Idempotency-Key`` says the same as the body's ``idempotency_key``, so it goes with one job; the jobs of an array
  bring keys of their own.
- ``DELETE`` cancels and answers 200 with the state the job is in now. One that had ended before stays as it ended:
  asking twice is no error.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.api.problems import ProblemDetails, Refused
from producer.client import AsyncProducer, JobNotFound
from tasks.accept import Accepted
from tasks.contract.errors import BadInput, Unreachable
from tasks.contract.job import Job
from tasks.contract.job_parsing import parse_job

__all__ = ["JobRoutes", "answering", "job_id_of", "read_json"]

#: Bytes of an array of jobs, so that one request can't fill the memory; larger ones are batches.
ARRAY_BYTES = 64 * 1024 * 1024
#: Jobs of one array: they are checked on the loop's thread, a thousand in some 50 ms.
ARRAY_JOBS = 10_000
#: JSON may write a letter of two bytes in six (``\\u00e9``), and the fields around a text need some room too. Files
#: come in base64, which writes three bytes in four.
ESCAPED = 3
ROOM = 64 * 1024

#: Seconds that Redis has to answer what a request needs of it, and more for each job of an array.
ANSWER_WITHIN = 5.0
ACCEPT_WITHIN = 10.0
ACCEPT_WITHIN_EACH = 0.01

_ID = re.compile(r"[0-9a-z]{26}")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_HEADERS = {"cache-control": "no-store"}


class JobRoutes:
    def __init__(self, producer: AsyncProducer) -> None:
        self._producer = producer
        payload = producer.config.limits.payload_bytes
        self._one_bytes = ESCAPED * payload + ROOM
        self._array_bytes = max(ARRAY_BYTES, self._one_bytes)

    def routes(self) -> list[Route]:
        return [
            Route("/jobs", self.submit, methods=["POST"]),
            Route("/jobs/{job_id}", self.read_or_cancel, methods=["GET", "DELETE"]),
        ]

    async def submit(self, request: Request) -> Response:
        data = await read_json(request, one=self._one_bytes, array=self._array_bytes)
        key = _key_header(request)
        if isinstance(data, list):
            accepted = await self._submit_array(data, key)
            body: Any = [{"id": job.id, "state": job.state} for job in accepted]
        else:
            job = parse_job(data if key is None else _with_key(data, key))
            accepted = await self._accept([job])
            body = {"id": accepted[0].id, "state": accepted[0].state}
        return _reply(202 if any(job.new for job in accepted) else 200, json.dumps(body))

    async def read_or_cancel(self, request: Request) -> Response:
        # One route: of two on one path, a refused method would be told the methods of the first alone.
        return await (self.cancel(request) if request.method == "DELETE" else self.read(request))

    async def read(self, request: Request) -> Response:
        async with answering(ANSWER_WITHIN):
            result = await self._producer.result(job_id_of(request))
        return _reply(200, result.model_dump_json())

    async def cancel(self, request: Request) -> Response:
        job_id = job_id_of(request)
        async with answering(ANSWER_WITHIN):
            await self._producer.cancel(job_id)
            (state,) = await self._producer.ledger.jobs.states([job_id])
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
        """`at` starts the field of an error, where the producer doesn't know that one job came in an array."""
        try:
            # Before the clock of Redis runs: reading documents has its own.
            jobs = await self._producer.read_files(jobs)
            async with answering(ACCEPT_WITHIN + ACCEPT_WITHIN_EACH * len(jobs)):
                return await self._producer.submit_many(jobs)
        except BadInput as error:
            told = BadInput(f"{at}{error.field}", error.problem, error.remedy)
            if self._is_too_large(jobs):
                raise Refused(
                    ProblemDetails(413, "too_large", f"{told.field}: {told.problem}", told.field, told.remedy or None)
                ) from None
            raise told from None

    def _is_too_large(self, jobs: Sequence[Job]) -> bool:
        limit = self._producer.config.limits.payload_bytes
        jobs = [job for job in jobs if job.files is None]  # one that still has them could not be read
        return any(len(job.model_dump_json(exclude_none=True).encode()) > limit for job in jobs)


async def read_json(request: Request, *, one: int, array: int) -> Any:
    """The parsed body of a request, of at most `one` bytes, or `array` bytes if it is a JSON array.

    Raises:
        Refused: 415 if it isn't declared as JSON (a form of another site's page can't do that), 413 as soon as it is
            longer than allowed, 400 if it can't be parsed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if not _JSON_TYPE.fullmatch(kind):
        raise Refused(
            ProblemDetails(
                415,
                "unsupported_media_type",
                f"Content-Type is {kind[:80]!r}" if kind else "Content-Type is missing",
                "Content-Type",
                "send Content-Type: application/json",
            )
        )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > array:
        raise _too_large(array)
    chunks: list[bytes] = []
    size, limit = 0, 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if not limit and (start := chunk.lstrip()):
            limit = array if start[:1] == b"[" else one
        if size > (limit or one):
            raise _too_large(limit or one)
    try:
        # Strict: no NaN, no lone surrogates, no nesting without end; and twice as fast as `json`.
        return from_json(b"".join(chunks), allow_inf_nan=False)
    except ValueError as error:
        # It tells place and kind of the mistake, never the text.
        raise Refused(
            ProblemDetails(400, "malformed_json", str(error), remedy="send one JSON value in UTF-8")
        ) from None


def _too_large(limit: int) -> Refused:
    return Refused(
        ProblemDetails(
            413,
            "too_large",
            f"the body has more than {limit:,} bytes",
            remedy="split it, or raise limits.payload_bytes in the configuration",
        )
    )


def job_id_of(request: Request) -> str:
    """The id in the path.

    Raises:
        JobNotFound: if it can't be one; Redis needn't be asked.
    """
    job_id: str = request.path_params["job_id"]
    if not _ID.fullmatch(job_id):
        raise JobNotFound(job_id[:64])
    return job_id


@asynccontextmanager
async def answering(seconds: float) -> AsyncIterator[None]:
    """Bound what is awaited inside.

    Raises:
        Unreachable: after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unreachable(f"Redis did not answer within {seconds:g} s") from None


def _key_header(request: Request) -> str | None:
    """The key, bare as most clients send it or as the quoted string of the IETF's draft; None if there is none."""
    given = set(request.headers.getlist("idempotency-key"))
    if not given:
        return None
    if len(given) > 1:
        raise BadInput("Idempotency-Key", "stands twice, with two values", "send one")
    key = given.pop().strip()
    quoted = _QUOTED.fullmatch(key)
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted.group(1))
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadInput("Idempotency-Key", "must have 1 to 255 printable ASCII characters", "use a UUID")
    return key


def _with_key(data: Any, key: str) -> Any:
    if not isinstance(data, Mapping):
        return data  # parse_job tells what is wrong with it
    said = data.get("idempotency_key")
    if said is not None and said != key:
        raise BadInput("Idempotency-Key", "differs from idempotency_key in the body", "send one of them")
    return {**data, "idempotency_key": key}


def _reply(status: int, body: str) -> Response:
    return Response(body, status, headers=_HEADERS, media_type="application/json")
