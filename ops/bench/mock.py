"""The model server of the benchmarks: one answer after a fixed latency, so cheap that it is never the bottleneck.

It speaks just enough HTTP/1.1 to serve keep-alive clients that send a Content-Length. It is a process of its own and
counts in no figure. ``POST`` to any path is answered as an OpenAI chat completion; ``GET /stats`` counts what came in,
``GET /reset`` does too and starts the counts anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

from ops.embedded.server_process import add_ready_options, announce

#: Connections that wait to be accepted: thousands of calls start in the same instant.
BACKLOG = 8192

_BODY = json.dumps(
    {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "mock",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "done"}, "finish_reason": "stop", "logprobs": None}
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13},
    }
).encode()


def _response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ANSWER = _response(_BODY)
UNCLEAR = _response(b'{"error": {"message": "send a Content-Length"}}', "411 Length Required")


@dataclass(slots=True)
class Counts:
    """Requests since the last reset, and how many of them were open at once at most."""

    requests: int = 0
    answered: int = 0
    #: Whose client went away before the answer.
    broken: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0

    def reset(self) -> None:
        self.requests = self.answered = self.broken = 0
        self.peak_in_flight = self.in_flight


@dataclass(slots=True)
class Served:
    """What all connections share."""

    latency: float
    counts: Counts = field(default_factory=Counts)


class Connection(asyncio.Protocol):
    def __init__(self, served: Served) -> None:
        self._served = served
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, which is not derived from it

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None
            self._served.counts.in_flight -= 1
            self._served.counts.broken += 1
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read()

    def _read(self) -> None:
        """Take one whole request off the buffer; the next waits until this one is answered."""
        assert self._transport is not None
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is not None:
            return
        method, _, rest = self._buffer[:end].partition(b" ")
        size = _content_length(self._buffer[:end]) if method != b"GET" else 0
        if size is None:
            self._transport.write(UNCLEAR)
            self._transport.close()
            return
        if len(self._buffer) < end + 4 + size:
            return
        self._buffer = self._buffer[end + 4 + size :]
        if method == b"GET":
            self._tell(rest.partition(b" ")[0])
            return
        counts = self._served.counts
        counts.requests += 1
        counts.in_flight += 1
        counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
        self._answer = self._loop.call_later(self._served.latency, self._done)

    def _done(self) -> None:
        self._answer = None
        counts = self._served.counts
        counts.in_flight -= 1
        counts.answered += 1
        if self._transport is not None:
            self._transport.write(ANSWER)
            if self._buffer:
                self._read()

    def _tell(self, path: bytes) -> None:
        assert self._transport is not None
        self._transport.write(_response(json.dumps(asdict(self._served.counts)).encode()))
        if path == b"/reset":
            self._served.counts.reset()
        if self._buffer:
            self._read()


def _content_length(head: bytes) -> int | None:
    lowered = head.lower()
    place = lowered.find(b"\r\ncontent-length:")
    if place < 0:
        return None
    value = lowered[place + 17 :].partition(b"\r\n")[0].strip()
    return int(value) if value.isdigit() else None


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, stopped.set)
    served = Served(options.latency)
    server = await loop.create_server(lambda: Connection(served), "127.0.0.1", options.port, backlog=BACKLOG)
    port = server.sockets[0].getsockname()[1]
    announce(options, f"http://127.0.0.1:{port}")
    await stopped.wait()
    server.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.mock", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds to an answer (default: %(default)s)")
    add_ready_options(parser)
    uvloop.run(_serve(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
