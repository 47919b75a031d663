"""What handlers read of a request: the JSON body, the job id of the path, the idempotency key. And their time limit."""

from __future__ import annotations

import asyncio
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from producer.api.problems import ProblemDetails
from producer.client import JobNotFound
from tasks.contract.errors import BadInput, Unreachable

#: Seconds that Redis has to answer what a request needs of it.
ANSWER_WITHIN = 5.0

_ID = re.compile(r"[0-9a-z]{26}")
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


async def read_json(request: Request, *, one: int, array: int) -> Any:
    """The parsed body of a request, of at most `one` bytes, or `array` bytes if it is a JSON array.

    Raises:
        ProblemDetails: 415 if it isn't declared as JSON (a form of another site's page can't do that), 413 as soon as
            it is longer than allowed, 400 if it can't be parsed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if not _JSON_TYPE.fullmatch(kind):
        raise ProblemDetails(
            415,
            "unsupported_media_type",
            f"Content-Type is {kind[:80]!r}" if kind else "Content-Type is missing",
            "Content-Type",
            "send Content-Type: application/json",
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
        # Strict (no NaN, no lone surrogates, bounded nesting) and twice as fast as `json`.
        return from_json(b"".join(chunks).removeprefix(BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        # The message has the place and kind of the mistake, never the text.
        raise ProblemDetails(400, "malformed_json", str(error), remedy="send one JSON value in UTF-8") from None


def _too_large(limit: int) -> ProblemDetails:
    return ProblemDetails(
        413,
        "too_large",
        f"the body has more than {limit:,} bytes",
        remedy="split it, or raise limits.payload_bytes in the configuration",
    )


def job_id_of(request: Request) -> str:
    """The job id of the path.

    Raises:
        JobNotFound: if its form is not that of a job id, without asking Redis.
    """
    job_id: str = request.path_params["job_id"]
    if not _ID.fullmatch(job_id):
        raise JobNotFound(job_id[:64])
    return job_id


def idempotency_key_of(request: Request) -> str | None:
    """The header's value, bare as most clients send it or as the quoted string of the IETF's draft; None without it.

    Raises:
        BadInput: if there are two, or it is no key.
    """
    given = set(request.headers.getlist("idempotency-key"))
    if not given:
        return None
    if len(given) > 1:
        raise BadInput("Idempotency-Key", "is given twice, with two values", "send one")
    key = given.pop().strip()
    quoted = _QUOTED.fullmatch(key)
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted.group(1))
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadInput("Idempotency-Key", "must have 1 to 255 printable ASCII characters", "use a UUID")
    return key


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Bound the time that Redis has for what is awaited inside.

    Raises:
        Unreachable: after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unreachable(f"Redis did not answer within {seconds:g} s") from None
