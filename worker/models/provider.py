"""What the clients of all providers share: an answer is read, judged by its ending, and billed."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tasks.config.dialects import Dialect
from tasks.contract.errors import BadReply, ContentRefused, ModelError
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.reasoning import A_HEADING, A_MARK, split_reasoning
from tasks.contract.result import Usage
from worker.models.endings import Ending, conclude, show_word
from worker.models.faults import read_error_body
from worker.models.http import Http, Reply, Streamed
from worker.models.json_body import mend_text, read_json
from worker.models.rate_headers import Headers
from worker.models.sse import Event
from worker.models.token_usage import TokenCounts, read_usage

#: Seconds that a stream may take to end after its end marker, so that its connection can be used again.
_GRACE = 0.05


class AnswerReader(ABC):
    """Reads one answer, whole or event by event."""

    #: What the provider's words for an ending mean; a word that is missing here ends no answer well.
    endings: Mapping[str, Ending]

    def __init__(self, name: str, request: ModelRequest) -> None:
        #: Whether the end of the answer was read.
        self.done = False
        #: Those of the HTTP answer, for an error in its body.
        self.headers: Headers = ()
        self._name = name
        self._request = request
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        #: The provider's word for the ending; None while there is none.
        self._reason: Any = None
        self._refuses = False
        self._calls_tool = False
        #: The JSON in each call of the tool `ANSWER`, in pieces, by its place.
        self._inputs: dict[Any, list[str]] = {}
        self._counts = TokenCounts()

    @abstractmethod
    def feed(self, event: Event) -> str:
        """The text of an event; empty for none.

        Raises:
            ModelError: for an error inside the stream, or an event of another API.
        """

    @abstractmethod
    def take(self, data: Mapping[str, Any]) -> None:
        """Read a whole answer.

        Raises:
            ModelError: as `feed` does.
        """

    def reply(self) -> ModelReply:
        """The whole answer.

        Raises:
            ModelError: where the answer did not end well, or has no text.
        """
        text, thoughts = self._texts()
        finish = self._conclude(text, has_thoughts=bool(thoughts))
        return ModelReply(text, self._usage(text, thoughts), finish, thoughts)

    def usage(self) -> Usage | None:
        """The tokens of what was read so far; None where the model did nothing yet."""
        text, thoughts = self._texts()
        if not text and not thoughts and self._reason is None and self._counts == TokenCounts():
            return None
        return self._usage(text, thoughts)

    def _usage(self, text: str, thoughts: str) -> Usage:
        return read_usage(self._counts, self._request, thoughts + text)

    def _texts(self) -> tuple[str, str]:
        """The text of the answer and its thoughts. Beside the input of the tool `ANSWER`, text is no answer."""
        marked, text = "", mend_text("".join(self._pieces))
        if A_MARK.search(text) or A_HEADING.match(text):
            marked, text = split_reasoning(text)
        # Of two calls the first counts: both are answers to the same question.
        if (pieces := next(iter(self._inputs.values()), None)) is not None:
            text = mend_text("".join(pieces)) or ("" if self._is_cut() else "{}")
        return text, "\n\n".join(filter(None, (mend_text("".join(self._thoughts)), marked)))

    def _conclude(self, text: str, *, has_thoughts: bool) -> str:
        """The finish reason.

        Raises:
            ModelError: as `reply` does.
        """
        if self._refuses:
            raise ContentRefused(self._name, "the provider blocks this answer (refusal); change the input")
        if self._reason is None or not self.done:
            raise BadReply(self._name, "ended its answer in the middle, without a word on how it ended")
        word = show_word(self._reason)
        ending = self.endings.get(word.lower())
        if ending in {"stop", "tools"} and self._inputs:
            ending = "stop"
        elif ending == "stop" and self._calls_tool:
            ending = "tools"
        return conclude(self._name, ending, word, text, has_thoughts=has_thoughts)

    def _is_cut(self) -> bool:
        return self._reason is not None and self.endings.get(show_word(self._reason).lower()) == "length"

    def _error(self, data: Any) -> ModelError:
        """The error in a body or an event."""
        return read_error_body(self._name, data, self.headers)


def read_whole(reader: AnswerReader, answer: Reply) -> ModelReply:
    """The reply in the JSON of one HTTP answer.

    Raises:
        ModelError: where it is none; it has the usage and the rate limits of the answer.
    """
    with _keeping(reader, answer):
        reader.take(answer.data)
        return _add_headers(reader.reply(), answer)


async def follow(
    http: Http, path: str, body: Mapping[str, Any], request: ModelRequest, reader: AnswerReader
) -> AsyncGenerator[str | ModelReply]:
    """Yield the pieces of the text as they come, then the whole reply.

    Closing this generator closes the provider's connection.
    """
    stream = await http.stream(path, body, request.timeout, request.first_byte_timeout)
    try:
        with _keeping(reader, stream):
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
    with _keeping(reader, stream):
        reply = _add_headers(reader.reply(), stream)
    yield reply


@contextlib.contextmanager
def _keeping(reader: AnswerReader, answer: Reply | Streamed) -> Iterator[None]:
    """Add to a `ModelError` what its answer cost, and the rate limits that its headers state."""
    reader.headers = answer.headers
    try:
        yield
    except ModelError as error:
        error.usage = error.usage or reader.usage()
        error.rate_limits = error.rate_limits or answer.rate_limits
        raise


def _add_headers(reply: ModelReply, answer: Reply | Streamed) -> ModelReply:
    """`reply` with the rate limits and the time of the first byte, which are not in the body of the answer."""
    return replace(reply, rate_limits=answer.rate_limits, first_byte_s=answer.first_byte_s)


def read_string(value: Any) -> str:
    """A string of an answer, "" for null.

    Raises:
        TypeError: for anything else.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


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
        data = read_json(event.data)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise BadReply(model, "sent an event that is no JSON object; is base_url the address of its API?")
    return data


def merge_system(messages: Iterable[Message]) -> list[tuple[str, str]]:
    """The turns of the conversation as (role, text), the system messages at the start of the first of the user."""
    system, turns = split_system(messages)
    if system and turns[0][0] == "user":
        return [("user", f"{system}\n\n{turns[0][1]}"), *turns[1:]]
    return [("user", system), *turns] if system else turns


def add_fields(body: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """`body` with the further fields of the dialect. A field of a job takes precedence, inside of objects too."""
    for name, value in dialect.body.items():
        own = body.get(name)
        body[name] = (
            {**value, **own} if isinstance(value, Mapping) and isinstance(own, Mapping) else body.get(name, value)
        )
    return body


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
