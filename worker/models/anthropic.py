"""Anthropic's Messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tasks.contract.errors import BadReply, ContentRefused
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from tasks.contract.schema import is_closed
from worker.models.faults import read_error_body
from worker.models.http import Http
from worker.models.provider import AnswerReader, add_headers, follow, parse_event, reading, split_system
from worker.models.sse import Event

DEFAULT_VERSION = "2023-06-01"
#: From this version on, the key goes as a Bearer token and the sampling parameters are refused.
BEARER_SINCE = "2026-10-21"
#: The API requires a bound: high enough for an answer, and low enough for every model.
DEFAULT_MAX_TOKENS = 4096
_PATH = "v1/messages"
#: The tool that a model must "call" with its answer, for schemas that the API refuses as an output format.
_TOOL = "answer"
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def build_headers(api_key: str | None, version: str) -> dict[str, str]:
    headers = {"anthropic-version": version}
    if api_key:
        headers |= {"Authorization": f"Bearer {api_key}"} if version >= BEARER_SINCE else {"x-api-key": api_key}
    return headers


class AnthropicClient:
    """A `tasks.contract.model_client.ModelClient`. `version` is that of the API, a date."""

    def __init__(self, name: str, http: Http, *, version: str = DEFAULT_VERSION) -> None:
        self._name = name
        self._http = http
        self._sampling = version < BEARER_SINCE

    async def complete(self, request: ModelRequest) -> ModelReply:
        answer = await self._http.post(_PATH, self._body(request), request.timeout, request.first_byte_timeout)
        data = answer.data
        if data.get("type") == "error":
            raise read_error_body(self._name, data)
        with reading(self._name, "answered with JSON that is no message; is base_url right?"):
            text = "".join(map(_read_text, data["content"]))
            usage = _read_usage(data.get("usage") or {})
            reason = data.get("stop_reason")
        return add_headers(ModelReply(text, usage, _translate_finish(self._name, reason, request)), answer)

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        body = self._body(request) | {"stream": True}
        return follow(self._http, _PATH, body, request, _MessageReader(self._name, request))

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """The request's body. The API has no seed; newer models take either temperature or top_p."""
        system, turns = split_system(request.messages)
        if turns and turns[-1][0] == "assistant":
            turns[-1] = ("assistant", turns[-1][1].rstrip())  # the API refuses white space at its end
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
            "messages": [{"role": role, "content": content} for role, content in turns],
        }
        if self._sampling and request.temperature is not None:
            body["temperature"] = min(request.temperature, 1.0)  # OpenAI's scale goes to 2
        elif self._sampling and request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if request.response_schema is not None:
            system = _request_schema(request.response_schema, body, system)
        if system:
            body["system"] = system
        return body


def _request_schema(schema: Mapping[str, Any], body: dict[str, Any], system: str) -> str:
    """Request this schema in the strictest way that the API has for it; returns the system message."""
    if schema.get("type") != "object":
        return f"{system}\n\nAnswer with JSON alone, which satisfies this JSON Schema: {json.dumps(schema)}".lstrip()
    if is_closed(schema):
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    else:
        body["tools"] = [{"name": _TOOL, "description": "Gives the answer.", "input_schema": schema}]
        body["tool_choice"] = {"type": "tool", "name": _TOOL}
    return system


class _MessageReader(AnswerReader):
    """The events of one message, ended by ``message_stop``."""

    def __init__(self, name: str, request: ModelRequest) -> None:
        super().__init__(name)
        self._request = request
        self._usage: dict[str, Any] = {}
        self._reason: Any = None

    def feed(self, event: Event) -> str:
        data = parse_event(event, self._name)
        with reading(self._name, "streamed JSON that is no message; is base_url right?"):
            match data.get("type"):
                case "error":
                    raise read_error_body(self._name, data)
                case "message_start":
                    self._count(data["message"].get("usage"))
                case "content_block_delta":
                    return self._take(data["delta"])
                case "message_delta":
                    self._count(data.get("usage"))
                    self._reason = data["delta"].get("stop_reason") or self._reason
                case "message_stop":
                    self.done = True
        return ""

    def _take(self, delta: Mapping[str, Any]) -> str:
        piece = delta.get("text") if delta.get("type") == "text_delta" else None
        if delta.get("type") == "input_json_delta" and self._request.response_schema is not None:
            piece = delta.get("partial_json")
        if piece is None:
            return ""
        if not isinstance(piece, str):
            raise TypeError
        self._pieces.append(piece)
        return piece

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        # Counts are cumulative: a later one replaces an earlier one.
        self._usage |= {name: count for name, count in (usage or {}).items() if count is not None}

    def reply(self) -> ModelReply:
        if not self.done:
            raise BadReply(self._name, "ended its stream in the middle of the answer")
        with reading(self._name, "counted tokens in no numbers"):
            usage = _read_usage(self._usage)
        return ModelReply("".join(self._pieces), usage, _translate_finish(self._name, self._reason, self._request))


def _read_text(block: Mapping[str, Any]) -> str:
    if block["type"] == "text":
        text = block["text"]
    elif block["type"] == "tool_use" and block.get("name") == _TOOL:
        text = json.dumps(block["input"], ensure_ascii=False)
    else:
        return ""  # its thinking
    if not isinstance(text, str):
        raise TypeError
    return text


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    """The tokens read from and written to the cache are not part of ``input_tokens``."""
    fields = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    fresh, written, read = (int(usage.get(field) or 0) for field in fields)
    details = usage.get("output_tokens_details") or {}
    return Usage(
        input_tokens=fresh + written + read,
        output_tokens=int(usage.get("output_tokens") or 0),
        cached_tokens=read,
        reasoning_tokens=int(details.get("thinking_tokens") or 0),
    )


def _translate_finish(name: str, reason: Any, request: ModelRequest) -> str:
    """The finish reason in OpenAI's words.

    Raises:
        ContentRefused: if the model declined to answer.
    """
    finish = _FINISH.get(str(reason), "stop")
    if finish == "content_filter":
        raise ContentRefused(name, "the provider blocks this answer (refusal); change the input")
    # The only tool that a request has is the form of the answer.
    return "stop" if finish == "tool_calls" and request.response_schema is not None else finish
