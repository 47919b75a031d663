"""Gemini's generateContent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tasks.config.dialects import Dialect
from tasks.contract.errors import BadReply, ContentRefused, NoAnswer
from tasks.contract.model_client import ModelReply, ModelRequest
from worker.models.endings import GEMINI, show_word
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
from worker.models.token_usage import TokenCounts, sum_counts

#: This version has all models; ``v1`` lacks aliases such as gemini-flash-latest.
DEFAULT_VERSION = "v1beta"
KEY_HEADER = "x-goog-api-key"
#: An answer has one of these fields.
_FIELDS = ("candidates", "promptFeedback", "usageMetadata")


class GeminiClient:
    """A `worker.models.adapted.ProviderClient`. `version` is that of the API, the first part of its paths."""

    def __init__(self, name: str, http: Http, *, version: str = DEFAULT_VERSION) -> None:
        self._name = name
        self._http = http
        self._version = version

    async def complete(self, request: ModelRequest, dialect: Dialect) -> ModelReply:
        path = f"{self._version}/{_resource(request.model)}:generateContent"
        answer = await self._http.post(path, build_body(request, dialect), request.timeout, request.first_byte_timeout)
        return read_whole(ContentReader(self._name, request), answer)

    def stream(self, request: ModelRequest, dialect: Dialect) -> AsyncIterator[str | ModelReply]:
        path = f"{self._version}/{_resource(request.model)}:streamGenerateContent?alt=sse"
        return follow(self._http, path, build_body(request, dialect), request, ContentReader(self._name, request))


def _resource(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def build_body(request: ModelRequest, dialect: Dialect) -> dict[str, Any]:
    """The request's body, without the parameters that the job does not set."""
    system, turns = split_system(request.messages)
    if dialect.system_role == "user":
        system, turns = "", merge_system(request.messages)
    body: dict[str, Any] = {
        "contents": [
            {"role": "model" if role == "assistant" else "user", "parts": [{"text": text}]} for role, text in turns
        ]
    }
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    wanted = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "maxOutputTokens": request.max_tokens,
        "seed": request.seed,
        "stopSequences": list(request.stop) if request.stop else None,
        "responseMimeType": "application/json" if request.response_schema is not None else None,
        "responseJsonSchema": request.response_schema,
    }
    if config := {name: value for name, value in wanted.items() if value is not None}:
        body["generationConfig"] = config
    return add_fields(body, dialect)


class ContentReader(AnswerReader):
    """Reads one answer, from one response or from the responses of a stream.

    A stream ends with its connection, since usage may follow the finish reason: `done` stays False until then.
    """

    endings = GEMINI

    def __init__(self, name: str, request: ModelRequest) -> None:
        super().__init__(name, request)
        self._blocked: Any = None

    def feed(self, event: Event) -> str:
        return self._read(parse_event(event, self._name))

    def take(self, data: Mapping[str, Any]) -> None:
        if not says_error(data, *_FIELDS) and not data.keys() & set(_FIELDS):
            raise BadReply(self._name, "answered with JSON that is no generated content; is base_url right?")
        self._read(data)

    def _read(self, data: Mapping[str, Any]) -> str:
        if says_error(data, *_FIELDS):
            raise self._error(data)
        with reading(self._name, "answered with JSON that is no generated content; is base_url right?"):
            if data.get("usageMetadata"):
                self._counts = _read_counts(data["usageMetadata"])
            self._blocked = (data.get("promptFeedback") or {}).get("blockReason") or self._blocked
            if not (candidates := data.get("candidates")):
                return ""
            candidate = candidates[0]
            self._reason = candidate.get("finishReason") or self._reason
            pieces = len(self._pieces)
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._take_part(part)
            return "".join(self._pieces[pieces:])

    def _take_part(self, part: Mapping[str, Any]) -> None:
        text = read_string(part.get("text"))
        if part.get("thought"):
            self._thoughts.append(text)
        else:
            self._pieces.append(text)
        self._calls_tool = self._calls_tool or "functionCall" in part

    def _conclude(self, text: str, *, has_thoughts: bool) -> str:
        if self._blocked is not None and self._reason is None:
            word = show_word(self._blocked)
            raise ContentRefused(self._name, f"the provider blocks this input ({word}); change the input")
        if self._reason is None and self._counts != TokenCounts() and not self._pieces:
            raise NoAnswer(self._name, "answered with no candidate and no reason")
        self.done = True
        return super()._conclude(text, has_thoughts=has_thoughts)


def _read_counts(usage: Mapping[str, Any]) -> TokenCounts:
    """Thoughts are not part of the answer's tokens, nor is the input of tools part of the prompt's."""
    return TokenCounts(
        input=sum_counts((usage.get("promptTokenCount"), usage.get("toolUsePromptTokenCount"))),
        output=sum_counts((usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount"))),
        total=usage.get("totalTokenCount"),
        cached=usage.get("cachedContentTokenCount"),
        reasoning=usage.get("thoughtsTokenCount"),
    )
