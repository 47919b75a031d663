"""Gemini's generateContent; the model that is asked for names what happens."""

from __future__ import annotations

from typing import Any

from tests.providers.serving import Answer, Provider, Request, sse

TEXT = "Grüße, 世界!"
USAGE = {
    "promptTokenCount": 30,
    "cachedContentTokenCount": 20,
    "candidatesTokenCount": 11,
    "thoughtsTokenCount": 6,
    "totalTokenCount": 47,
}
_TYPE = "type.googleapis.com/google.rpc."


def _error(status: int, word: str, *details: dict[str, Any], message: str = "about: my secret text") -> Answer:
    error: dict[str, Any] = {"code": status, "message": message, "status": word}
    if details:
        error["details"] = list(details)
    return Answer(status, {"error": error})


def _quota(quota: str) -> dict[str, Any]:
    return {"@type": f"{_TYPE}QuotaFailure", "violations": [{"quotaMetric": "m", "quotaId": quota}]}


_RETRY = {"@type": f"{_TYPE}RetryInfo", "retryDelay": "34.5s"}
ERRORS = {
    "bad": _error(400, "INVALID_ARGUMENT"),
    "key": _error(400, "INVALID_ARGUMENT", {"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID"}),
    "location": _error(400, "FAILED_PRECONDITION", message="User location is not supported for the API use."),
    "context": _error(
        400, "INVALID_ARGUMENT",
        message="The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "unauthenticated": _error(401, "UNAUTHENTICATED"),
    "forbidden": _error(403, "PERMISSION_DENIED"),
    "no-model": _error(404, "NOT_FOUND"),
    "rate-limit": _error(
        429, "RESOURCE_EXHAUSTED", _quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), _RETRY
    ),
    "daily": _error(429, "RESOURCE_EXHAUSTED", _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), _RETRY),
    "tomorrow": _error(429, "RESOURCE_EXHAUSTED", {"@type": f"{_TYPE}RetryInfo", "retryDelay": "40000s"}),
    "broken": _error(500, "INTERNAL"),
    "overloaded": _error(503, "UNAVAILABLE"),
    "gateway": _error(504, "DEADLINE_EXCEEDED"),
}  # fmt: skip


class Gemini(Provider):
    def answer(self, request: Request) -> Answer:
        version, _, rest = request.path.removeprefix("/").partition("/models/")
        case, _, method = rest.partition(":")
        # Google's package asks under v1, its documentation shows v1beta.
        if version not in {"v1", "v1beta"} or method not in {"generateContent", "streamGenerateContent"}:
            return _error(404, "NOT_FOUND")
        if request.headers.get("x-goog-api-key") != "sk-test":
            return ERRORS["key"]
        contents = request.body.get("contents")
        if not contents or any(turn.get("role", "user") not in {"user", "model"} for turn in contents):
            return _error(400, "INVALID_ARGUMENT")
        if case in ERRORS:
            return ERRORS[case]
        if method == "generateContent":
            return self._whole(case, request.body)
        assert request.query == "alt=sse"
        return self._stream(case)

    def _whole(self, case: str, body: dict[str, Any]) -> Answer:
        thought = {"text": "hm", "thought": True}
        parts: list[dict[str, Any]] = [thought, {"text": TEXT[:3]}, {"text": TEXT[3:]}]
        reason = {"long": "MAX_TOKENS", "safety": "SAFETY", "recitation": "RECITATION", "odd": "OTHER"}.get(
            case, "STOP"
        )
        if case == "never":
            return Answer(stalls="head")
        if case == "blocked":
            return Answer(body={"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": USAGE})
        if case == "other":
            return Answer(body={"hello": "world"})
        if case == "json":
            config = body["generationConfig"]
            assert config["responseMimeType"] == "application/json"
            assert config["responseJsonSchema"]["type"] == "object"
            parts = [{"text": '{"name": "Ada", "age": 36}'}]
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": 0}
        if reason in {"SAFETY", "RECITATION"}:
            candidate.pop("content")
        return Answer(body={"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": case})

    def _stream(self, case: str) -> Answer:
        def chunk(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
            candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
            return {"candidates": [candidate | ({"finishReason": reason} if reason else {})], **more}

        pieces = [chunk(piece, usageMetadata={"promptTokenCount": 30}) for piece in TEXT[:-1]]
        last = chunk(TEXT[-1], "STOP", usageMetadata=USAGE)
        match case:
            case "stalls":
                return Answer(events=sse(pieces[0]), stalls="after")
            case "ends":
                return Answer(events=sse(*pieces))
            case "safety":
                return Answer(events=sse(pieces[0], {"candidates": [{"finishReason": "SAFETY", "index": 0}]}))
            case "error-inside":
                return Answer(events=sse(pieces[0], _error(503, "UNAVAILABLE").body))
        return Answer(events=[item.replace(b"\n", b"\r\n") for item in sse(*pieces, last)])
