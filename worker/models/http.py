"""The one module that imports httpx: every model call leaves through here.

httpx is the interface, aiohttp carries it. The pool of httpx walks all its connections at each request, and its client
adds cookies, redirects, authentication and hooks, none of which a model's API needs: so requests go straight to a
transport of our own (measured: docs/reference/models.md).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
from yarl import URL

from tasks.contract.errors import BadReply, ConfigError, ConnectionFailed, ModelError, TimedOut
from tasks.contract.rate_limits import RateLimits
from worker.models.faults import fault
from worker.models.limits import rate_limits
from worker.models.sse import Event, Events, TooLong

__all__ = ["CONNECT_TIMEOUT", "Http", "Reply", "Streamed", "Timing", "Transport", "mapped"]

#: Seconds to get a connection; a host that needs longer is taken to be down.
CONNECT_TIMEOUT = 10.0
#: Seconds that an idle connection is kept; servers close theirs after 60 s and more.
KEEPALIVE = 30.0
#: Bytes: a model's answer above this is refused, so that no server can fill our memory.
MOST_BYTES = 32 * 1024 * 1024
_BROKEN = "no connection, or it broke off ({}); is its server up?"
#: Compact and as it is: no escapes for what UTF-8 can say, no search for cycles in what pydantic made.
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: for all of it, and until the first byte of the answer must be there (None: `total` alone)."""

    total: float
    first_byte: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer that holds a JSON object."""

    data: Mapping[str, Any]
    rate_limits: RateLimits | None
    first_byte_s: float


class Transport(httpx.AsyncBaseTransport):
    """httpx's requests over aiohttp's connections, without a limit: a model's capacity is the limit.

    Belongs to one event loop and is shared by all its clients. Raises what httpx raises; a call that is cancelled
    closes its connection. Only its timeout of connecting is its own: the caller bounds the rest.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session or self._open()
        stream = request.stream
        content = b"".join(stream) if isinstance(stream, httpx.ByteStream) else await request.aread()
        try:
            answer = await session.request(
                request.method,
                _target(request.url),
                headers=request.headers.multi_items(),
                data=content or None,
                allow_redirects=False,
                timeout=_patience(request.extensions.get("timeout", {}).get("connect", CONNECT_TIMEOUT)),
            )
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            raise _translated(error) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer), request=request)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE, ssl=_tls()),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Answers are small, and what is compressed costs both sides CPU.
            headers={"Accept-Encoding": "identity", "User-Agent": "pointsman"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self._session


class _Body(httpx.AsyncByteStream):
    """The body of an answer, to be read whole, in chunks, or left."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.chunk():
            yield chunk

    async def chunk(self) -> bytes:
        """What has arrived, at least one byte; nothing at the end."""
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    async def whole(self, most: int) -> bytes | None:
        """All of it, or None where it has more bytes than `most`."""
        content, size = [], 0
        while chunk := await self.chunk():
            size += len(chunk)
            if size > most:
                return None
            content.append(chunk)
        return content[0] if len(content) == 1 else b"".join(content)

    def leave(self) -> None:
        """Give the connection back where all was read, close it where not."""
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()

    async def aclose(self) -> None:
        self.leave()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """One for the whole process: it holds the certificates of all authorities, or those that SSL_CERT_FILE names."""
    return httpx.create_ssl_context()


@lru_cache(maxsize=1024)
def _target(url: httpx.URL) -> URL:
    return URL(str(url), encoded=True)


@lru_cache(maxsize=1024)
def _patience(connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect)


#: What httpx calls the errors of aiohttp; the first that fits counts.
_NAMES: Sequence[tuple[type[Exception], type[httpx.TransportError]]] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientPayloadError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
    (OSError, httpx.ReadError),
    # A header or an address that can't be sent; a session that was closed.
    (Exception, httpx.LocalProtocolError),
)


def _translated(error: Exception) -> httpx.TransportError:
    return next(theirs for ours, theirs in _NAMES if isinstance(error, ours))(str(error))


def mapped(model: str, error: Exception, connect: float) -> ModelError:
    """Our error for whatever a transport of httpx raises."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return ConnectionFailed(model, f"no connection within {connect:g} s; is its server up?")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(model, f"{type(error).__name__}: its connection stood still for too long")
    cause = error.__cause__ if error.__cause__ is not None else error
    return ConnectionFailed(model, _BROKEN.format(type(cause).__name__))


class Http:
    """One model's way to its API. `model` is our name for it, for the errors."""

    def __init__(
        self,
        model: str,
        base_url: str,
        headers: Mapping[str, str],
        transport: Transport,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        first_byte_timeout: float | None = None,
    ) -> None:
        """Made once, used for every call.

        Raises:
            ConfigError: for a key that can't stand in a header, or an address that is none.
        """
        for name, value in headers.items():
            if not value.isascii() or not value.isprintable():
                raise ConfigError(f"models.{model}: the key for {name} holds what no key can; check api_key_env")
        try:
            self._base = httpx.URL(base_url.rstrip("/") + "/")
        except httpx.InvalidURL:
            raise ConfigError(f"models.{model}.base_url: is no address; for example http://127.0.0.1:8000/v1") from None
        self._model = model
        self._transport = transport
        self._headers = httpx.Headers({**headers, "content-type": "application/json", "accept": "*/*"})
        self._connect = connect_timeout
        self._first_byte = first_byte_timeout
        self._addresses: dict[str, httpx.URL] = {}

    async def post(self, path: str, body: Mapping[str, Any], timing: Timing) -> Reply:
        """Send JSON, get JSON.

        Raises:
            ModelError: for everything else that can happen; no other exception leaves this method.
        """
        clock = _Clock(timing, self._first_byte)
        try:
            async with asyncio.timeout_at(clock.first) as bound:
                response = await self._send(path, body, clock)
                try:
                    clock.answered = True
                    if clock.first < clock.end:
                        bound.reschedule(clock.end)
                    content = await _body(response).whole(MOST_BYTES)
                finally:
                    _body(response).leave()
        except TimeoutError as error:
            raise clock.told(self._model) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise mapped(self._model, error, self._connect) from error
        if content is None:
            raise BadReply(self._model, f"answered with more than {MOST_BYTES:,} bytes")
        if not response.is_success:
            raise fault(self._model, response.status_code, content, response.headers, response.headers.raw)
        return Reply(self._parse(response, content), rate_limits(response.headers.raw), clock.first_byte_s)

    async def stream(self, path: str, body: Mapping[str, Any], timing: Timing) -> Streamed:
        """Send JSON, get events; leave the stream when done with it.

        Raises:
            ModelError: as `post` does.
        """
        clock = _Clock(timing, self._first_byte)
        try:
            async with asyncio.timeout_at(clock.first):
                response = await self._send(path, body, clock)
        except TimeoutError as error:
            raise clock.told(self._model) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise mapped(self._model, error, self._connect) from error
        streamed = Streamed(self._model, response, clock, self._connect)
        kind = response.headers.get("content-type", "no content type").split(";")[0]
        if response.is_success and kind == "text/event-stream":
            return streamed
        try:
            content = await streamed.whole()
        finally:
            streamed.leave()
        if not response.is_success:
            raise fault(self._model, response.status_code, content, response.headers, response.headers.raw)
        self._parse(response, content)
        raise BadReply(self._model, f"answered with {kind} instead of a stream; does it stream?")

    async def _send(self, path: str, body: Mapping[str, Any], clock: _Clock) -> httpx.Response:
        address = self._addresses.get(path)
        if address is None:
            address = self._addresses[path] = self._base.join(path)
        content = _encode(body).encode("utf-8", "replace")
        response = await self._transport.handle_async_request(
            httpx.Request(
                "POST",
                address,
                headers=self._headers,
                # A stream that is there keeps httpx from reading it again to find out its length.
                stream=httpx.ByteStream(content),
                extensions={"timeout": {"connect": self._connect}},
            )
        )
        clock.first_byte_s = time.monotonic() - clock.sent
        return response

    def _parse(self, response: httpx.Response, content: bytes) -> Mapping[str, Any]:
        if not content.strip():
            raise BadReply(self._model, "answered with nothing; is base_url the address of its API?")
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            kind = response.headers.get("content-type", "no content type").split(";")[0]
            raise BadReply(self._model, f"answered with {kind} instead of JSON; is base_url right?") from None
        if not isinstance(data, dict):
            raise BadReply(self._model, "answered with JSON that is no object; is base_url right?")
        return data


class Streamed:
    """An answer that comes as events. Whoever has it must `leave` it."""

    def __init__(self, model: str, response: httpx.Response, clock: _Clock, connect: float) -> None:
        self._model = model
        self._body = _body(response)
        self._clock = clock
        self._connect = connect
        self._events = Events(most_bytes=MOST_BYTES)
        self._over = False
        self.rate_limits = rate_limits(response.headers.raw)

    @property
    def first_byte_s(self) -> float:
        """Seconds from sending to the first byte of the answer's body."""
        return self._clock.first_byte_s

    async def events(self) -> list[Event] | None:
        """The events that have come since; None at the end.

        Raises:
            ModelError: where the stream breaks off, stands still past its time, or is no stream of events.
        """
        if self._over:
            return None
        chunk = await self._chunk()
        try:
            events = self._events.feed(chunk) if chunk else self._events.finish()
        except TooLong:
            raise BadReply(self._model, f"sent an event of more than {MOST_BYTES:,} bytes") from None
        self._over = not chunk
        return events

    async def whole(self) -> bytes:
        content = bytearray()
        while chunk := await self._chunk():
            content += chunk
            if len(content) > MOST_BYTES:
                raise BadReply(self._model, f"answered with more than {MOST_BYTES:,} bytes")
        return bytes(content)

    def leave(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        self._body.leave()

    async def _chunk(self) -> bytes:
        clock = self._clock
        try:
            async with asyncio.timeout_at(clock.end if clock.answered else clock.first):
                chunk = await self._body.chunk()
        except TimeoutError as error:
            raise clock.told(self._model) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise mapped(self._model, error, self._connect) from error
        if not clock.answered:
            clock.answered = True
            clock.first_byte_s = time.monotonic() - clock.sent
        return chunk


class _Clock:
    """When a call was sent, when its first byte and its end are due, and what to say when they are not there."""

    __slots__ = ("_patience", "_timing", "answered", "end", "first", "first_byte_s", "sent")

    def __init__(self, timing: Timing, first_byte: float | None) -> None:
        now = asyncio.get_running_loop().time()
        self._timing = timing
        self._patience = timing.first_byte if timing.first_byte is not None else first_byte
        self.end = now + timing.total
        self.first = self.end if self._patience is None else min(self.end, now + self._patience)
        self.sent = time.monotonic()
        self.answered = False
        self.first_byte_s = 0.0

    def told(self, model: str) -> TimedOut:
        if not self.answered and self.first < self.end:
            return TimedOut(model, f"sent no first byte within {self._patience:g} s")
        return TimedOut(model, f"did not answer within {self._timing.total:g} s")


def _body(response: httpx.Response) -> _Body:
    assert isinstance(response.stream, _Body)
    return response.stream
