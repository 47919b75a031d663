"""Anthropic's Messages; the model that is asked for names what happens."""

from __future__ import annotations

from typing import Any

from tests.providers.serving import Answer, Provider, Request, sse

TEXT = "Grüße, 世界!"
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 7,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 9},
}
LIMITS = {
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2015-10-21T07:28:00Z",
    "anthropic-ratelimit-input-tokens-limit": "80000",
    "anthropic-ratelimit-input-tokens-remaining": "79000",
    "anthropic-ratelimit-input-tokens-reset": "2999-10-21T07:28:00Z",
    "request-id": "req_1",
}


def _error(status: int, kind: str, message: str = "about: my secret text", code: str = "", **headers: str) -> Answer:
    error: dict[str, Any] = {"type": kind, "message": message}
    if code:
        error["details"] = {"error_code": code}
    body = {"type": "error", "error": error, "request_id": "req_1"}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


ERRORS = {
    "bad": _error(400, "invalid_request_error"),
    "context": _error(400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
    "context-output": _error(
        400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000"
    ),
    "credit": _error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "spend-400": _error(400, "invalid_request_error", "You have reached your specified API usage limits."),
    "key": _error(401, "authentication_error"),
    "billing": _error(402, "billing_error"),
    "forbidden": _error(403, "permission_error"),
    "no-model": _error(404, "not_found_error"),
    "conflict": _error(409, "conflict_error"),
    "large": _error(413, "request_too_large"),
    "rate-limit": _error(429, "rate_limit_error", retry_after="30"),
    "spend": _error(429, "rate_limit_error", code="enforced_spend_limit_reached", retry_after="5"),
    "broken": _error(500, "api_error"),
    "gateway": _error(504, "timeout_error"),
    "overloaded": _error(529, "overloaded_error"),
}


class Anthropic(Provider):
    def answer(self, request: Request) -> Answer:
        body = request.body
        if request.path != "/v1/messages":
            return _error(404, "not_found_error")
        if (problem := self._problem(request)) is not None:
            return problem
        case = body["model"]
        if case in ERRORS:
            return ERRORS[case]
        return self._stream(case) if body.get("stream") else self._whole(case, body)

    def _problem(self, request: Request) -> Answer | None:
        """What the API itself refuses."""
        body, headers = request.body, request.headers
        version = headers.get("anthropic-version")
        if version is None:
            return _error(400, "invalid_request_error", "anthropic-version: header is required")
        new = version >= "2026-10-21"
        key = headers.get("authorization") if new else headers.get("x-api-key")
        if key != ("Bearer sk-test" if new else "sk-test"):
            return ERRORS["key"]
        if new and {"temperature", "top_p", "top_k"} & body.keys():
            return _error(400, "invalid_request_error", "temperature: is not supported")
        if not isinstance(body.get("max_tokens"), int):
            return _error(400, "invalid_request_error", "max_tokens: Field required")
        if not body.get("messages") or any(turn["role"] not in {"user", "assistant"} for turn in body["messages"]):
            return _error(400, "invalid_request_error", "messages: unexpected role")
        if unknown := body.keys() & {"seed", "stop", "response_format"}:
            return _error(400, "invalid_request_error", f"{unknown}: Extra inputs are not permitted")
        return None

    def _whole(self, case: str, body: dict[str, Any]) -> Answer:
        thinking = {"type": "thinking", "thinking": "hm", "signature": "x"}
        content: list[dict[str, Any]] = [thinking, {"type": "text", "text": TEXT}]
        reason = {"long": "max_tokens", "window": "model_context_window_exceeded", "stopped": "stop_sequence"}.get(
            case, "end_turn"
        )
        match case:
            case "never":
                return Answer(stalls="head")
            case "refusal":
                content, reason = [], "refusal"
            case "json":
                content, reason = self._json(body)
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": case, "content": content,
            "stop_reason": reason, "stop_sequence": None, "usage": USAGE,
        }  # fmt: skip
        return Answer(body=message, headers=LIMITS)

    def _json(self, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
        answer = {"name": "Ada", "age": 36}
        if "output_config" in body:
            assert body["output_config"]["format"]["type"] == "json_schema"
            return [{"type": "text", "text": '{"name": "Ada", "age": 36}'}], "end_turn"
        if "tools" in body:
            assert body["tool_choice"] == {"type": "tool", "name": body["tools"][0]["name"]}
            assert body["tools"][0]["input_schema"]["type"] == "object"
            return [{"type": "tool_use", "id": "t", "name": body["tools"][0]["name"], "input": answer}], "tool_use"
        assert "JSON Schema" in body["system"]
        return [{"type": "text", "text": "[36]"}], "end_turn"

    def _stream(self, case: str) -> Answer:
        start = {
            "type": "message_start",
            "message": {
                "id": "msg_1", "type": "message", "role": "assistant", "model": case, "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": USAGE | {"output_tokens": 1},
            },
        }  # fmt: skip
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        pieces: list[dict[str, Any]] = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in TEXT
        ]
        usage = {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 9}}
        reason = "refusal" if case == "refusal" else "end_turn"
        end = [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ]
        ping = {"type": "ping"}
        match case:
            case "stalls":
                return Answer(events=sse(start, block, pieces[0], named=True), stalls="after")
            case "ends":
                return Answer(events=sse(start, block, *pieces, *end[:2], named=True))
            case "error-inside":
                error = {"type": "error", "error": {"type": "overloaded_error", "message": "my secret text"}}
                return Answer(events=sse(start, block, pieces[0], error, named=True))
        return Answer(events=sse(start, ping, block, *pieces, *end, named=True), headers=LIMITS)
