"""What the clients of all providers do alike: follow a stream to its end, and be strict about its JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from tasks.contract.errors import BadReply, ModelError
from tasks.contract.job import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from worker.models.http import Http, Reply, Streamed, Timing
from worker.models.sse import Event

__all__ = ["MISSHAPEN", "Reading", "completed", "follow", "json_of", "timing_of", "turns_of"]

#: What reading JSON of another shape than the promised one raises.
MISSHAPEN = (KeyError, IndexError, TypeError, ValueError, AttributeError)
#: Seconds that a stream may take to end after its end marker: then its connection can be used again.
_GRACE = 0.05


class Reading(Protocol):
    """One stream, read event by event."""

    #: Its end marker was there.
    done: bool

    def feed(self, event: Event) -> str:
        """The text that an event brings; empty for none.

        Raises:
            ModelError: for an error inside the stream, or an event of another API.
        """
        ...

    def reply(self) -> ModelReply:
        """The whole answer.

        Raises:
            ModelError: where the stream ended before its end marker, or the provider blocked the answer.
        """
        ...


async def follow(
    http: Http, path: str, body: Mapping[str, Any], request: ModelRequest, reading: Reading
) -> AsyncGenerator[str | ModelReply]:
    """The pieces of the text as they come, then the whole reply. Leaving it closes the provider's connection."""
    stream = await http.stream(path, body, timing_of(request))
    try:
        while not reading.done and (events := await stream.events()) is not None:
            for event in events:
                if event.data and (piece := reading.feed(event)):
                    yield piece
        await _end(stream)
    finally:
        stream.leave()
    yield completed(reading.reply(), stream)


async def _end(stream: Streamed) -> None:
    with contextlib.suppress(TimeoutError, ModelError):
        async with asyncio.timeout(_GRACE):
            while await stream.events() is not None:
                pass


def completed(reply: ModelReply, answer: Reply | Streamed) -> ModelReply:
    """`reply` with what the HTTP answer says beside its body."""
    return replace(reply, rate_limits=answer.rate_limits, first_byte_s=answer.first_byte_s)


def json_of(event: Event, model: str) -> dict[str, Any]:
    """The JSON object of an event.

    Raises:
        BadReply: for anything else.
    """
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BadReply(model, "sent an event that is no JSON object; is base_url the address of its API?")
    return data


def timing_of(request: ModelRequest) -> Timing:
    return Timing(request.timeout, request.first_byte_timeout)


def turns_of(messages: Iterable[Message]) -> tuple[str, list[tuple[str, str]]]:
    """The system messages as one, and the turns of the conversation, each role at most once in a row.

    For APIs that take the system message beside the conversation, and refuse empty turns. A conversation of system
    messages alone becomes the user's, since there must be something to answer.
    """
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    for message in messages:
        if not message.content.strip():
            continue
        if message.role == "system":
            system.append(message.content)
        elif turns and turns[-1][0] == message.role:
            turns[-1] = (message.role, f"{turns[-1][1]}\n\n{message.content}")
        else:
            turns.append((message.role, message.content))
    joined = "\n\n".join(system)
    return ("", [("user", joined)]) if not turns and joined else (joined, turns)
