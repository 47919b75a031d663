"""HTTP for the clients of models; the one module that imports httpx.

httpx is the interface, aiohttp the implementation. The pool of httpx walks all its connections at each request, and its
client adds cookies, redirects, authentication and hooks, none of which a model's API needs: so requests go straight to
a transport of our own (measured: docs/reference/models.md).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
from yarl import URL

from tasks.contract.errors import BadReply, ConfigError, ConnectionFailed, ModelError, TimedOut
from tasks.contract.result import RateLimits
from worker.models.error_report import says_error
from worker.models.faults import read_error, read_error_body
from worker.models.json_body import read_json
from worker.models.rate_headers import Headers, read_rate_limits
from worker.models.sse import Event, Events, TooLong

#: Seconds to get a connection; a host that needs longer counts as down.
CONNECT_TIMEOUT = 10.0
#: Seconds that an idle connection is kept; servers close theirs after 60 s and more.
KEEPALIVE = 30.0
#: Bytes: a model's answer above this is refused, so that no server can fill our memory.
MOST_BYTES = 32 * 1024 * 1024
_BROKEN = "no connection, or it broke off ({}); is its server up?"
#: Compact, without escapes of UTF-8, and without a search for cycles, which pydantic's data does not have.
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer that holds a JSON object."""

    data: Mapping[str, Any]
    rate_limits: RateLimits | None
    first_byte_s: float
    headers: Headers = ()


class Transport(httpx.AsyncBaseTransport):
    """httpx's requests over aiohttp's connections, without a limit: a model's capacity is the limit.

    A transport belongs to one event loop, and all clients share it. It raises the errors of httpx; a cancelled call
    closes its connection. It bounds the time of connecting alone, the caller bounds the rest.
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
                timeout=_connect_timeout(request.extensions.get("timeout", {}).get("connect", CONNECT_TIMEOUT)),
            )
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            raise _translate(error) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer), request=request)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE, ssl=_tls()),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Answers are small, and compression costs both sides CPU.
            headers={"Accept-Encoding": "identity", "User-Agent": "pointsman"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self._session


class _Body(httpx.AsyncByteStream):
    """The body of an answer, to be read whole or in chunks, and then left."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.chunk():
            yield chunk

    async def chunk(self) -> bytes:
        """The bytes that have arrived, at least one; empty at the end."""
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translate(error) from error

    async def whole(self) -> bytes | None:
        """The whole body, or None where it has more than `MOST_BYTES`."""
        content, size = [], 0
        while chunk := await self.chunk():
            size += len(chunk)
            if size > MOST_BYTES:
                return None
            content.append(chunk)
        return content[0] if len(content) == 1 else b"".join(content)

    def leave(self) -> None:
        """Release the connection where all was read, close it otherwise."""
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()

    async def aclose(self) -> None:
        self.leave()


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """The context of the whole process, with the certificates of all authorities, or those that SSL_CERT_FILE names."""
    return httpx.create_ssl_context()


@lru_cache(maxsize=1024)
def _target(url: httpx.URL) -> URL:
    return URL(str(url), encoded=True)


@lru_cache(maxsize=1024)
def _connect_timeout(connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect)


#: The errors of aiohttp and their names in httpx; the first that fits counts.
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
    # A header or an address that can't be sent, or a closed session.
    (Exception, httpx.LocalProtocolError),
)


def _translate(error: Exception) -> httpx.TransportError:
    return next(theirs for ours, theirs in _NAMES if isinstance(error, ours))(str(error))


def map_error(model: str, error: Exception, connect: float) -> ModelError:
    """Our error for an error of an httpx transport."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return ConnectionFailed(model, f"no connection within {connect:g} s; is its server up?")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(model, f"{type(error).__name__}: its connection stood still for too long")
    cause = error.__cause__ if error.__cause__ is not None else error
    return ConnectionFailed(model, _BROKEN.format(type(cause).__name__))


class Http:
    """Sends requests to one model's API. `model` is our name for the model, for the errors."""

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
        """Raises a `ConfigError` for a key that no header can hold, or an invalid address."""
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

    async def post(
        self, path: str, body: Mapping[str, Any], timeout: float, first_byte_timeout: float | None = None
    ) -> Reply:
        """Send JSON, and return the JSON of the answer; the times are in seconds.

        Raises:
            ModelError: for every failure; no other exception leaves this method.
        """
        clock = self._clock(timeout, first_byte_timeout)
        response, content = await self._exchange(path, body, clock)
        assert content is not None
        headers = response.headers.raw
        return Reply(self._parse(response, content), read_rate_limits(headers), clock.first_byte_s, headers)

    async def stream(
        self, path: str, body: Mapping[str, Any], timeout: float, first_byte_timeout: float | None = None
    ) -> Streamed:
        """Send JSON, and return a stream of events, which the caller must `leave`.

        Raises:
            ModelError: as `post` does.
        """
        clock = self._clock(timeout, first_byte_timeout)
        response, content = await self._exchange(path, body, clock, streams=True)
        if content is None:
            return Streamed(self._model, response, clock)
        data = self._parse(response, content)
        if says_error(data, "choices", "candidates", "content"):
            raise read_error_body(self._model, data, response.headers.raw)
        raise BadReply(self._model, f"answered with {_kind(response)} instead of a stream; does it stream?")

    def _clock(self, timeout: float, first_byte_timeout: float | None) -> _Clock:
        first_byte = self._first_byte if first_byte_timeout is None else first_byte_timeout
        return _Clock(self._model, timeout, first_byte, self._connect)

    async def _exchange(
        self, path: str, body: Mapping[str, Any], clock: _Clock, *, streams: bool = False
    ) -> tuple[httpx.Response, bytes | None]:
        """The answer and its content; where it `streams`, as it was asked to, None in place of the content."""
        with clock.map_errors():
            async with asyncio.timeout_at(clock.first) as bound:
                response = await self._send(path, body, clock)
                if streams and response.is_success and _kind(response) == "text/event-stream":
                    return response, None
                try:
                    clock.answered = True
                    if clock.first < clock.end:
                        bound.reschedule(clock.end)
                    content = await _body(response).whole()
                finally:
                    _body(response).leave()
        if content is None:
            raise BadReply(self._model, f"answered with more than {MOST_BYTES:,} bytes")
        if not response.is_success:
            raise read_error(self._model, response.status_code, content, response.headers.raw)
        return response, content

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
                # With a stream, httpx does not read the content again to find its length.
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
            data = read_json(content)
        except ValueError as error:
            kind = _kind(response)
            found = f"{kind} instead of JSON" if "json" not in kind else f"{error} where JSON is due"
            raise BadReply(self._model, f"answered with {found}; is base_url right?") from None
        if isinstance(data, list) and data and isinstance(data[0], dict) and "error" in data[0]:
            return data[0]
        if not isinstance(data, dict):
            raise BadReply(self._model, "answered with JSON that is no object; is base_url right?")
        return data


class Streamed:
    """An answer that comes as events. The caller must `leave` it."""

    def __init__(self, model: str, response: httpx.Response, clock: _Clock) -> None:
        self._model = model
        self._body = _body(response)
        self._clock = clock
        self._events = Events(most_bytes=MOST_BYTES)
        self._over = False
        self.headers: Headers = response.headers.raw
        self.rate_limits = read_rate_limits(self.headers)

    @property
    def first_byte_s(self) -> float:
        """Seconds from sending to the first byte of the answer's body."""
        return self._clock.first_byte_s

    async def events(self) -> list[Event] | None:
        """The events that have arrived since the last call; None at the end.

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

    def leave(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        self._body.leave()

    async def _chunk(self) -> bytes:
        clock = self._clock
        with clock.map_errors():
            async with asyncio.timeout_at(clock.end if clock.answered else clock.first):
                chunk = await self._body.chunk()
        if not clock.answered:
            clock.answered = True
            clock.first_byte_s = time.monotonic() - clock.sent
        return chunk


class _Clock:
    """The times of one request: when it was sent, when its first byte and its end are due."""

    __slots__ = ("_connect", "_first_byte", "_model", "_total", "answered", "end", "first", "first_byte_s", "sent")

    def __init__(self, model: str, total: float, first_byte: float | None, connect: float) -> None:
        """Seconds for all of it, until the first byte of the answer (None: `total` alone), and for connecting."""
        now = asyncio.get_running_loop().time()
        self._model = model
        self._total = total
        self._first_byte = first_byte
        self._connect = connect
        self.end = now + total
        self.first = self.end if first_byte is None else min(self.end, now + first_byte)
        self.sent = time.monotonic()
        self.answered = False
        self.first_byte_s = 0.0

    @contextmanager
    def map_errors(self) -> Iterator[None]:
        """Raise our errors for a timeout of this clock and for the errors of the transport."""
        try:
            yield
        except TimeoutError as error:
            problem = f"did not answer within {self._total:g} s"
            if not self.answered and self.first < self.end:
                problem = f"sent no first byte within {self._first_byte:g} s"
            raise TimedOut(self._model, problem) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise map_error(self._model, error, self._connect) from error


def _kind(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "no content type")).split(";")[0]


def _body(response: httpx.Response) -> _Body:
    assert isinstance(response.stream, _Body)
    return response.stream
