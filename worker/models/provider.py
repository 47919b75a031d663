"""What the clients of all providers share: streams that are followed to their end, and strict reading of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tasks.contract.errors import BadReply, ModelError
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from worker.models.http import Http, Reply, Streamed
from worker.models.sse import Event

#: Seconds that a stream may take to end after its end marker, so that its connection can be used again.
_GRACE = 0.05


class AnswerReader(ABC):
    """Reads one streamed answer, event by event."""

    def __init__(self, name: str) -> None:
        #: Whether the end marker of the stream was read.
        self.done = False
        self._name = name
        self._pieces: list[str] = []

    @abstractmethod
    def feed(self, event: Event) -> str:
        """The text of an event; empty for none.

        Raises:
            ModelError: for an error inside the stream, or an event of another API.
        """

    @abstractmethod
    def reply(self) -> ModelReply:
        """The whole answer.

        Raises:
            ModelError: where the stream ended before its end marker, or the provider blocked the answer.
        """


async def follow(
    http: Http, path: str, body: Mapping[str, Any], request: ModelRequest, reader: AnswerReader
) -> AsyncGenerator[str | ModelReply]:
    """Yield the pieces of the text as they come, then the whole reply.

    Closing this generator closes the provider's connection.
    """
    stream = await http.stream(path, body, request.timeout, request.first_byte_timeout)
    try:
        while not reader.done and (events := await stream.events()) is not None:
            for event in events:
                if event.data and (piece := reader.feed(event)):
                    yield piece
        with contextlib.suppress(TimeoutError, ModelError):
            async with asyncio.timeout(_GRACE):
                while await stream.events() is not None:
                    pass
    finally:
        stream.leave()
    yield add_headers(reader.reply(), stream)


def add_headers(reply: ModelReply, answer: Reply | Streamed) -> ModelReply:
    """`reply` with the rate limits and the time of the first byte, which are not in the body of the answer."""
    return replace(reply, rate_limits=answer.rate_limits, first_byte_s=answer.first_byte_s)


@contextlib.contextmanager
def reading(model: str, problem: str) -> Iterator[None]:
    """Raise `BadReply` with this problem where JSON has another shape than the API promises."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise BadReply(model, problem) from None


def parse_event(event: Event, model: str) -> dict[str, Any]:
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


def split_system(messages: Iterable[Message]) -> tuple[str, list[tuple[str, str]]]:
    """The system messages as one, and the turns of the conversation as (role, text), in which the roles alternate.

    For APIs that take the system message beside the conversation, and refuse empty turns. System messages alone become
    the user's turn, since there must be one.
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
