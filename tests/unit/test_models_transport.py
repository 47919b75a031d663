"""Whatever a transport raises becomes one of our errors, with words that say what to do."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tasks.contract.errors import ConfigError, ConnectionFailed, RetryableModelError, TimedOut
from worker.models import http
from worker.models.http import Http, Transport, map_error

ROOMS = ("tasks", "worker", "producer")


def tree(root: type[Any]) -> Iterator[type[Any]]:
    yield root
    for below in root.__subclasses__():
        yield from tree(below)


def theirs() -> list[type]:
    """Every error of httpx, but those of a finished answer, which only its client raises."""
    found = {kind for root in (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) for kind in tree(root)}
    return sorted(found - {httpx.HTTPStatusError}, key=lambda kind: kind.__name__)


def make(kind: type) -> Exception:
    return kind() if kind in {httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead, httpx.RequestNotRead} \
        else kind("my secret text")  # fmt: skip


class Raising(Transport):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002
        raise self._error


@pytest.mark.parametrize("kind", theirs(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", ["post", "stream"])
def test_errors_of_httpx_are_each_mapped_to_one_of_ours(kind, way):
    client = Http("m", "http://127.0.0.1:9/v1", {}, Raising(make(kind)))
    with pytest.raises(RetryableModelError) as caught:
        asyncio.run(getattr(client, way)("x", {}, 5))
    assert "secret" not in str(caught.value)
    timed_out = issubclass(kind, httpx.ReadTimeout | httpx.WriteTimeout) or kind is httpx.TimeoutException
    assert type(caught.value) is (TimedOut if timed_out else ConnectionFailed)


def made_by_aiohttp() -> list[type]:
    return sorted(set(tree(aiohttp.ClientError)), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", [*made_by_aiohttp(), OSError, ConnectionResetError, TimeoutError, ValueError])
def test_errors_of_aiohttp_are_each_mapped_to_one_of_httpx(kind):
    error = kind.__new__(kind)
    error.args = ()
    # Some describe themselves by what they were not given here.
    kind_of = next(ours for ours, _ in http._NAMES if isinstance(error, ours))
    named = dict(http._NAMES)[kind_of]
    assert issubclass(named, httpx.TransportError)
    if isinstance(error, aiohttp.ClientError):
        assert kind_of is not Exception
    if isinstance(error, aiohttp.ServerTimeoutError):
        assert issubclass(named, httpx.TimeoutException)


def test_timeout_error_names_the_timeout_that_ended():
    assert "no connection within 3 s" in str(map_error("m", httpx.ConnectTimeout("x"), 3.0))
    assert "broke off" in str(map_error("m", httpx.ReadError("x"), 3.0))


def test_server_that_takes_no_connection_fails_within_connect_timeout():
    # A queue of connections that is full drops the next one's first packet, as a host that is down does.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        full = [socket.socket() for _ in range(4)]
        for waiting in full:
            waiting.setblocking(False)
            waiting.connect_ex(address)

        async def go():
            transport = Transport()
            client = Http("m", f"http://127.0.0.1:{address[1]}", {}, transport, connect_timeout=0.3)
            try:
                await client.post("x", {}, 30)
            finally:
                await transport.aclose()

        with pytest.raises(ConnectionFailed, match=re.escape("no connection within 0.3 s")):
            asyncio.run(go())
        for waiting in full:
            waiting.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"])
def test_refused_connection_is_a_connection_failure(url):
    async def go():
        transport = Transport()
        try:
            await Http("m", url, {}, transport).post("x", {}, 30)
        finally:
            await transport.aclose()

    with pytest.raises(ConnectionFailed, match=r"no connection.*is its server up"):
        asyncio.run(go())


@pytest.mark.parametrize("key", ["sk-\nx", "sk-\u200b", "schlüssel"])
def test_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError, match="check api_key_env") as caught:
        Http("m", "http://127.0.0.1:9", {"Authorization": f"Bearer {key}"}, Transport())
    assert key not in str(caught.value)


def test_invalid_address_is_refused():
    with pytest.raises(ConfigError, match="base_url: is no address"):
        Http("m", "http://[::", {}, Transport())


def test_httpx_is_imported_by_one_module_of_the_worker_and_the_encoder():
    sources = [path for room in ROOMS for path in (Path(__file__).parents[2] / room).rglob("*.py")]
    found = [path for path in sources if re.search(r"^\s*(import|from) httpx", path.read_text(), re.MULTILINE)]
    # The encoder embeds a configuration's examples before any loop runs, and `tasks` may not import the worker.
    assert [path.name for path in found if "sdk" not in path.parts] == ["endpoint.py", "http.py"]
