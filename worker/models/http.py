"""The one module that imports httpx: every model call leaves through here.

httpx is the interface; aiohttp carries it, because the pool of httpx walks all its connections at each request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_aiohttp import AiohttpTransport

from tasks.errors import (
    BadReply,
    BadRequest,
    ConnectionFailed,
    ModelError,
    ModelNotFound,
    Overloaded,
    RateLimited,
    TimedOut,
    Unauthorized,
)

__all__ = ["Http", "Reply"]

#: Seconds to get a connection; a host that needs longer is taken to be down.
CONNECT_TIMEOUT = 10.0
#: Seconds that an idle connection is kept; servers close theirs after 60 s and more.
KEEPALIVE = 30.0
#: Bytes: a model's answer above this is refused, so that no server can fill our memory.
MOST_BYTES = 32 * 1024 * 1024
_BROKEN = "no connection, or it broke off ({}); is its server up?"


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer that holds a JSON object."""

    data: Mapping[str, Any]
    headers: Mapping[str, str]


class Http:
    """One model's connections. `model` is our name for it, for the errors."""

    def __init__(self, model: str, base_url: str, headers: Mapping[str, str]) -> None:
        self._model = model
        # 0 is aiohttp's word for no limit: the pool's size is the limit, and an operator may change it while we run.
        limits = httpx.Limits(max_connections=0, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE)
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers=dict(headers),
            transport=AiohttpTransport(limits=limits, trust_env=False),
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, path: str, body: Mapping[str, Any], *, timeout: float) -> Reply:
        """Send JSON, get JSON.

        Raises:
            ModelError: for everything else that can happen; no other exception leaves this method.
        """
        limits = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout), pool=timeout)
        try:
            async with self._client.stream("POST", path, json=body, timeout=limits) as response:
                content = await self._read(response)
        except httpx.TimeoutException as error:
            # The transport tells every broken connection as a timeout of connecting; its cause says which it was.
            if not isinstance(error.__cause__, TimeoutError):
                raise ConnectionFailed(self._model, _BROKEN.format(type(error.__cause__).__name__)) from error
            raise TimedOut(self._model, f"did not answer within {timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise ConnectionFailed(self._model, _BROKEN.format(type(error).__name__)) from error
        if not response.is_success:
            raise self._told(response, content)
        return Reply(self._parse(response, content), response.headers)

    async def _read(self, response: httpx.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MOST_BYTES:
                raise BadReply(self._model, f"answered with more than {MOST_BYTES:,} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _parse(self, response: httpx.Response, content: bytes) -> Mapping[str, Any]:
        if not content.strip():
            raise BadReply(self._model, "answered with nothing; is base_url the address of its API?")
        try:
            data = json.loads(content)
        except ValueError:
            kind = response.headers.get("content-type", "no content type").split(";")[0]
            raise BadReply(self._model, f"answered with {kind} instead of JSON; is base_url right?") from None
        if not isinstance(data, dict):
            raise BadReply(self._model, "answered with JSON that is no object; is base_url right?")
        return data

    def _told(self, response: httpx.Response, content: bytes) -> ModelError:
        """The error of a status; its text is the provider's code at most, since a message may quote the prompt."""
        status = response.status_code
        code = _code(content)
        said = f"HTTP {status}" + (f" ({code})" if code else "")
        if status == 429:
            return RateLimited(
                self._model, f"{said}: over its rate limit", status=status, retry_after=_retry_after(response.headers)
            )
        if status in {408, 409} or status >= 500:
            return Overloaded(
                self._model, f"{said}: overloaded or broken", status=status, retry_after=_retry_after(response.headers)
            )
        if status in {401, 403}:
            return Unauthorized(
                self._model,
                f"{said}: the key is missing or refused; check the variable named by api_key_env",
                status=status,
            )
        if status in {400, 413, 422}:
            return BadRequest(
                self._model,
                f"{said}: it refuses this request; check the job's parameters and its length",
                status=status,
            )
        return ModelNotFound(
            self._model,
            f"{said}: no such model or address; check model and base_url in the configuration",
            status=status,
        )


def _code(content: bytes) -> str:
    """The provider's machine-readable word for the error, where it is one word."""
    try:
        data = json.loads(content)
    except ValueError:
        return ""
    error = data.get("error", data) if isinstance(data, dict) else None
    for field in ("code", "type", "status"):
        value = error.get(field) if isinstance(error, dict) else None
        if isinstance(value, str) and value.replace("_", "").isalnum() and len(value) <= 60:
            return value
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from ``retry-after-ms`` or ``retry-after``; a date there is left to our own backoff."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None
