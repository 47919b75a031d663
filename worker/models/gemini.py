"""Gemini's generateContent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tasks.contract.errors import BadReply, ContentRefused
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from worker.models.faults import read_error_body
from worker.models.http import Http
from worker.models.provider import AnswerReader, add_headers, follow, parse_event, reading, split_system
from worker.models.sse import Event

#: This version has all models; ``v1`` lacks aliases such as gemini-flash-latest.
DEFAULT_VERSION = "v1beta"
_FINISH = {"STOP": "stop", "FINISH_REASON_UNSPECIFIED": "stop", "MAX_TOKENS": "length"}
#: Finish reasons of a blocked answer: another attempt would end alike.
_BLOCKED = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
    "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
}  # fmt: skip


def build_headers(api_key: str | None) -> dict[str, str]:
    return {"x-goog-api-key": api_key} if api_key else {}


class GeminiClient:
    """A `tasks.contract.model_client.ModelClient`. `version` is that of the API, the first part of its paths."""

    def __init__(self, name: str, http: Http, *, version: str = DEFAULT_VERSION) -> None:
        self._name = name
        self._http = http
        self._version = version

    async def complete(self, request: ModelRequest) -> ModelReply:
        path = f"{self._version}/{_resource(request.model)}:generateContent"
        answer = await self._http.post(path, build_body(request), request.timeout, request.first_byte_timeout)
        reader = _ContentReader(self._name)
        reader.take(answer.data)
        return add_headers(reader.reply(), answer)

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        path = f"{self._version}/{_resource(request.model)}:streamGenerateContent?alt=sse"
        return follow(self._http, path, build_body(request), request, _ContentReader(self._name))


def _resource(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def build_body(request: ModelRequest) -> dict[str, Any]:
    """The request's body, without the parameters that the job does not set."""
    system, turns = split_system(request.messages)
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
    return body


class _ContentReader(AnswerReader):
    """Reads one answer, from one response or from the responses of a stream.

    It is never `done`: a stream ends with its connection, since usage may follow the finish reason.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._usage: Mapping[str, Any] = {}
        self._reason: str | None = None
        self._blocked: str | None = None

    def feed(self, event: Event) -> str:
        return self.take(parse_event(event, self._name))

    def take(self, data: Mapping[str, Any]) -> str:
        if data.get("error"):
            raise read_error_body(self._name, data)
        with reading(self._name, "answered with JSON that is no generated content; is base_url right?"):
            self._usage = data.get("usageMetadata") or self._usage
            self._blocked = (data.get("promptFeedback") or {}).get("blockReason") or self._blocked
            if not (candidates := data.get("candidates")):
                return ""
            candidate = candidates[0]
            self._reason = candidate.get("finishReason") or self._reason
            parts = (candidate.get("content") or {}).get("parts") or ()
            # Thoughts are parts, too; parts without text are calls of tools and the like.
            piece = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
        self._pieces.append(piece)
        return piece

    def reply(self) -> ModelReply:
        if self._blocked is not None and self._reason is None:
            raise self._refused("this input", self._blocked)
        if self._reason is None:
            raise BadReply(self._name, "ended its answer without a reason to finish; is base_url right?")
        if self._reason in _BLOCKED:
            raise self._refused("this answer", self._reason)
        if self._reason not in _FINISH:
            word = _word(self._reason)
            raise BadReply(self._name, f"broke its answer off ({word})")
        with reading(self._name, "counted tokens in no numbers"):
            usage = _read_usage(self._usage)
        return ModelReply("".join(self._pieces), usage, _FINISH[self._reason])

    def _refused(self, what: str, reason: str) -> ContentRefused:
        return ContentRefused(self._name, f"the provider blocks {what} ({_word(reason)}); change the input")


def _word(reason: Any) -> str:
    return reason if isinstance(reason, str) and reason.replace("_", "").isalnum() and len(reason) <= 60 else "unknown"


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    """Thoughts are not part of the answer's tokens, nor is the input of tools part of the prompt's."""
    fields = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    prompt, tools, answer, thoughts = (int(usage.get(field) or 0) for field in fields)
    return Usage(
        input_tokens=prompt + tools,
        output_tokens=answer + thoughts,
        cached_tokens=int(usage.get("cachedContentTokenCount") or 0),
        reasoning_tokens=thoughts,
    )
