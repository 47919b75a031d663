"""Gemini's generateContent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tasks.contract.errors import BadReply, ContentRefused
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Usage
from worker.models.faults import fault_in
from worker.models.http import Http
from worker.models.reading import MISSHAPEN, completed, follow, json_of, timing_of, turns_of
from worker.models.sse import Event

__all__ = ["DEFAULT_VERSION", "GeminiClient", "body_of", "headers_of"]

#: It has all models; ``v1`` lacks the aliases such as gemini-flash-latest.
DEFAULT_VERSION = "v1beta"
_FINISH = {"STOP": "stop", "FINISH_REASON_UNSPECIFIED": "stop", "MAX_TOKENS": "length"}
#: The provider blocks the answer; asking again gives the same.
_BLOCKED = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
    "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
}  # fmt: skip


def headers_of(api_key: str | None) -> dict[str, str]:
    return {"x-goog-api-key": api_key} if api_key else {}


class GeminiClient:
    """A `tasks.queue.ports.ModelClient`. `version` is that of the API, the first part of its paths."""

    def __init__(self, name: str, http: Http, *, version: str = DEFAULT_VERSION) -> None:
        self._name = name
        self._http = http
        self._version = version

    async def complete(self, request: ModelRequest) -> ModelReply:
        path = f"{self._version}/{_resource(request.model)}:generateContent"
        answer = await self._http.post(path, body_of(request), timing_of(request))
        whole = _Whole(self._name)
        whole.take(answer.data)
        return completed(whole.reply(), answer)

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        path = f"{self._version}/{_resource(request.model)}:streamGenerateContent?alt=sse"
        return follow(self._http, path, body_of(request), request, _Whole(self._name))


def _resource(model: str) -> str:
    return model if "/" in model else f"models/{model}"


def body_of(request: ModelRequest) -> dict[str, Any]:
    """The request's body; what the job left open is left to the provider."""
    system, turns = turns_of(request.messages)
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


class _Whole:
    """One answer, out of one response or out of the many of a stream; a reason to finish ends it."""

    def __init__(self, name: str) -> None:
        #: A stream ends with its connection: usage may still follow the reason to finish.
        self.done = False
        self._name = name
        self._pieces: list[str] = []
        self._usage: Mapping[str, Any] = {}
        self._reason: str | None = None
        self._blocked: str | None = None

    def feed(self, event: Event) -> str:
        return self.take(json_of(event, self._name))

    def take(self, data: Mapping[str, Any]) -> str:
        if data.get("error"):
            raise fault_in(self._name, data)
        try:
            self._usage = data.get("usageMetadata") or self._usage
            self._blocked = (data.get("promptFeedback") or {}).get("blockReason") or self._blocked
            if not (candidates := data.get("candidates")):
                return ""
            candidate = candidates[0]
            self._reason = candidate.get("finishReason") or self._reason
            parts = (candidate.get("content") or {}).get("parts") or ()
            # Its thoughts are parts, too; those without text are calls of tools and the like.
            piece = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
        except MISSHAPEN:
            raise BadReply(self._name, "answered with JSON that is no generated content; is base_url right?") from None
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
        try:
            usage = _usage_of(self._usage)
        except MISSHAPEN:
            raise BadReply(self._name, "counted tokens in no numbers") from None
        return ModelReply("".join(self._pieces), usage, _FINISH[self._reason])

    def _refused(self, what: str, reason: str) -> ContentRefused:
        return ContentRefused(self._name, f"the provider blocks {what} ({_word(reason)}); change the input")


def _word(reason: Any) -> str:
    return reason if isinstance(reason, str) and reason.replace("_", "").isalnum() and len(reason) <= 60 else "unknown"


def _usage_of(usage: Mapping[str, Any]) -> Usage:
    """Its thoughts stand beside the tokens of the answer, not within; what tools read beside those of the prompt."""
    fields = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    prompt, tools, answer, thoughts = (int(usage.get(field) or 0) for field in fields)
    return Usage(
        input_tokens=prompt + tools,
        output_tokens=answer + thoughts,
        cached_tokens=int(usage.get("cachedContentTokenCount") or 0),
        reasoning_tokens=thoughts,
    )
