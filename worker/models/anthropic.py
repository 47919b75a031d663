"""Anthropic's Messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tasks.config.dialects import Dialect
from tasks.config.models import ANTHROPIC_MAX_TOKENS
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.schema import is_closed
from worker.models.endings import ANTHROPIC
from worker.models.error_report import says_error
from worker.models.http import Http
from worker.models.provider import (
    AnswerReader,
    add_fields,
    follow,
    merge_system,
    parse_event,
    read_string,
    read_whole,
    reading,
    split_system,
)
from worker.models.sse import Event
from worker.models.structured import ANSWER
from worker.models.token_usage import TokenCounts, sum_counts

DEFAULT_VERSION = "2023-06-01"
#: From this version on, the key goes as a Bearer token and the sampling parameters are refused.
BEARER_SINCE = "2026-10-21"
_PATH = "v1/messages"


def key_header(version: str) -> str:
    """The header of the key, by the version of the API."""
    return "Authorization" if version >= BEARER_SINCE else "x-api-key"


class AnthropicClient:
    """A `worker.models.adapted.ProviderClient`. `version` is that of the API, a date."""

    def __init__(self, name: str, http: Http, *, version: str = DEFAULT_VERSION) -> None:
        self._name = name
        self._http = http
        self._sampling = version < BEARER_SINCE

    async def complete(self, request: ModelRequest, dialect: Dialect) -> ModelReply:
        answer = await self._http.post(_PATH, self._body(request, dialect), request.timeout, request.first_byte_timeout)
        return read_whole(MessageReader(self._name, request), answer)

    def stream(self, request: ModelRequest, dialect: Dialect) -> AsyncIterator[str | ModelReply]:
        body = self._body(request, dialect) | {"stream": True}
        return follow(self._http, _PATH, body, request, MessageReader(self._name, request))

    def _body(self, request: ModelRequest, dialect: Dialect) -> dict[str, Any]:
        """The request's body. The API has no seed; newer models take either temperature or top_p."""
        system, turns = split_system(request.messages)
        if dialect.system_role == "user":
            system, turns = "", merge_system(request.messages)
        if turns and turns[-1][0] == "assistant":
            turns[-1] = ("assistant", turns[-1][1].rstrip())  # the API refuses white space at its end
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens or ANTHROPIC_MAX_TOKENS,
            "messages": [{"role": role, "content": content} for role, content in turns],
        }
        if self._sampling and request.temperature is not None:
            body["temperature"] = min(request.temperature, 1.0)  # OpenAI's scale goes to 2
        elif self._sampling and request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if request.response_schema is not None:
            _request_schema(request.response_schema, body, dialect)
        if system:
            body["system"] = system
        return add_fields(body, dialect)


def _request_schema(schema: Mapping[str, Any], body: dict[str, Any], dialect: Dialect) -> None:
    """Request this schema, whose root is an object, in the strictest way that the API has for it."""
    if is_closed(schema) and dialect.response_format == "json_schema":
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    else:
        body["tools"] = [{"name": ANSWER, "description": "Gives the answer.", "input_schema": schema}]
        body["tool_choice"] = {"type": "tool", "name": ANSWER}


class MessageReader(AnswerReader):
    """One message, whole or as the events that are ended by ``message_stop``."""

    endings = ANTHROPIC

    def __init__(self, name: str, request: ModelRequest) -> None:
        super().__init__(name, request)
        self._usage_fields: dict[str, Any] = {}

    def feed(self, event: Event) -> str:
        data = parse_event(event, self._name)
        if says_error(data, "type"):
            raise self._error(data)
        with reading(self._name, "streamed JSON that is no message; is base_url right?"):
            match data.get("type"):
                case "message_start":
                    self._count(data["message"].get("usage"))
                case "content_block_start":
                    return self._start(data.get("index"), data["content_block"])
                case "content_block_delta":
                    return self._grow(data.get("index"), data["delta"])
                case "message_delta":
                    self._count(data.get("usage"))
                    self._reason = data["delta"].get("stop_reason") or self._reason
                case "message_stop":
                    self.done = True
        return ""

    def take(self, data: Mapping[str, Any]) -> None:
        if says_error(data, "content"):
            raise self._error(data)
        with reading(self._name, "answered with JSON that is no message; is base_url right?"):
            self._count(data.get("usage"))
            self._reason = data.get("stop_reason")
            for index, block in enumerate(data["content"] or ()):
                self._start(index, block)
        self.done = True

    def _conclude(self, text: str, *, has_thoughts: bool) -> str:
        if self._reason == "tool_use" and not self._inputs and not self._calls_tool:
            self._reason = "end_turn"
        return super()._conclude(text, has_thoughts=has_thoughts)

    def _start(self, index: Any, block: Mapping[str, Any]) -> str:
        """Read a block of content, which in a stream has little in it yet."""
        match block["type"]:
            case "text":
                self._pieces.append(read_string(block["text"]))
                return self._pieces[-1]
            case "thinking":
                self._thoughts.append(read_string(block.get("thinking")))
            case "tool_use" if block.get("name") == ANSWER and self._request.response_schema is not None:
                given = block.get("input")
                self._inputs[index] = [json.dumps(given, ensure_ascii=False)] if given else []
            case "tool_use" | "server_tool_use":
                self._calls_tool = True
        return ""

    def _grow(self, index: Any, delta: Mapping[str, Any]) -> str:
        match delta.get("type"):
            case "text_delta":
                self._pieces.append(read_string(delta["text"]))
                return self._pieces[-1]
            case "thinking_delta":
                self._thoughts.append(read_string(delta["thinking"]))
            case "input_json_delta" if index in self._inputs:
                self._inputs[index].append(read_string(delta["partial_json"]))
        return ""

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        # TokenCounts are cumulative: a later one replaces an earlier one.
        self._usage_fields |= {name: count for name, count in (usage or {}).items() if count is not None}
        fields = self._usage_fields
        details = fields.get("output_tokens_details")
        # The tokens read from and written to the cache are not part of ``input_tokens``.
        given = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        self._counts = TokenCounts(
            input=sum_counts(fields.get(field) for field in given),
            output=fields.get("output_tokens"),
            cached=fields.get("cache_read_input_tokens"),
            reasoning=details.get("thinking_tokens") if isinstance(details, Mapping) else None,
        )
