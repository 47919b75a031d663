"""``POST /jobs``, ``GET /jobs/{id}``, ``DELETE /jobs/{id}``: submit, read and cancel a job.

- One job object is answered with 202 ``{"id", "state"}``, an array with an array in the same order: all jobs are
  accepted or, on bad input, none. The status is 200 where no job is new: all were known by their keys.
- The header ``Idempotency-Key`` equals the field ``idempotency_key``, so it goes with one job; each job of an array has
  a key of its own.
- ``DELETE`` cancels and answers 200 with the present state. A job that had ended keeps its state, so a second
  ``DELETE`` is no error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.api.http_request import ANSWER_WITHIN, idempotency_key_of, job_id_of, read_json, time_limit
from producer.api.problems import ProblemDetails, Refused
from producer.client import AsyncProducer, JobNotFound
from tasks.accept import Accepted
from tasks.contract.errors import BadInput
from tasks.contract.job import Job, parse_job

__all__ = ["JobRoutes"]

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
                problem = ProblemDetails.of_bad_input(located, status=413, code="too_large")
                raise Refused(problem) from None
            raise located from None

    def _is_too_large(self, jobs: Sequence[Job]) -> bool:
        limit = self._producer.config.limits.payload_bytes
        jobs = [job for job in jobs if job.files is None]  # files that are left could not be read
        return any(len(job.model_dump_json(exclude_none=True).encode()) > limit for job in jobs)


def _with_key(data: Any, key: str) -> Any:
    if not isinstance(data, Mapping):
        return data  # parse_job raises with the reason
    given = data.get("idempotency_key")
    if given is not None and given != key:
        raise BadInput("Idempotency-Key", "differs from idempotency_key in the body", "send one of them")
    return {**data, "idempotency_key": key}


def _reply(status: int, body: str) -> Response:
    return Response(body, status, headers=_HEADERS, media_type="application/json")
