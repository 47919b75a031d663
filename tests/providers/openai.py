"""OpenAI's API and its relatives; the model that is asked for names what happens."""

from __future__ import annotations

import json
from typing import Any

from tests.providers.serving import Answer, Provider, Request, sse

TEXT = "Grüße, 世界!"
USAGE = {
    "prompt_tokens": 22,
    "completion_tokens": 12,
    "total_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
LIMITS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}


def _error(status: int, kind: str, code: str | None, message: str = "about: my secret text", **headers: str) -> Answer:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


ERRORS = {
    "rate-limit": _error(429, "requests", "rate_limit_exceeded", retry_after="7"),
    "rate-limit-ms": _error(429, "tokens", "rate_limit_exceeded", retry_after_ms="1500"),
    "rate-limit-date": _error(429, "tokens", "rate_limit_exceeded", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "quota": _error(429, "insufficient_quota", "insufficient_quota"),
    "credit": _error(429, "insufficient_quota", "credit_balance_exhausted"),
    "org-spend": _error(429, "insufficient_quota", "organization_spend_limit_exceeded"),
    "project-spend": _error(429, "insufficient_quota", "project_spend_limit_exceeded"),
    "org-usage": _error(429, "insufficient_quota", "organization_usage_limit_exceeded"),
    "tomorrow": _error(429, "requests", "rate_limit_exceeded", retry_after="43200"),
    "payment": _error(402, "invalid_request_error", None),
    "key": _error(401, "invalid_request_error", "invalid_api_key"),
    "forbidden": _error(403, "invalid_request_error", "unsupported_country_region_territory"),
    "no-model": _error(404, "invalid_request_error", "model_not_found"),
    "bad": _error(400, "invalid_request_error", "unsupported_parameter"),
    "unprocessable": _error(422, "invalid_request_error", None),
    "large": _error(413, "invalid_request_error", None),
    "context": _error(400, "invalid_request_error", "context_length_exceeded"),
    "vllm-context": Answer(400, {
        "object": "error", "type": "BadRequestError", "param": None, "code": 400,
        "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
    }),
    "vllm-no-model": Answer(404, {"object": "error", "message": "x", "type": "NotFoundError", "code": 404}),
    "ollama": Answer(404, {"error": "model 'my secret text' not found, try pulling it first"}),
    "filter": _error(400, "invalid_request_error", "content_filter"),
    "policy": _error(400, "invalid_request_error", "content_policy_violation"),
    "timeout": _error(408, "timeout", None),
    "conflict": _error(409, "conflict", None),
    "broken": _error(500, "server_error", None),
    "gateway": Answer(502, b"<html>my secret text</html>", kind="text/html"),
    "overloaded": _error(503, "server_error", "overloaded", retry_after="3"),
}  # fmt: skip


#: Answers that are none.
_ODD = {
    "never": Answer(stalls="head"),
    "half": Answer(body=b'{"choices": [', stalls="body"),
    "breaks": Answer(body=b'{"choices": [', breaks=True),
    "html": Answer(body=b"<html>hello</html>", kind="text/html"),
    "empty": Answer(body=b""),
    "other": Answer(body={"hello": "world"}),
    "hidden-error": Answer(body={"error": {"message": "my secret text", "code": 429}}),
}


def _is_repair(body: dict[str, Any]) -> bool:
    return any("does not satisfy" in message["content"] for message in body["messages"])


class OpenAI(Provider):
    def answer(self, request: Request) -> Answer:
        if request.path == "/v1/embeddings":
            return self._embed(request.body)
        body = request.body
        if request.path != "/v1/chat/completions":
            return _error(404, "invalid_request_error", "unknown_url")
        if request.headers.get("authorization") != "Bearer sk-test":
            return ERRORS["key"]
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            return _error(400, "invalid_request_error", "missing_required_parameter")
        case = body["model"]
        if case in ERRORS:
            return ERRORS[case]
        if case == "json-breaks" and _is_repair(body):
            return ERRORS["overloaded"]
        return self._stream(case, body) if body.get("stream") else self._whole(case, body)

    def _whole(self, case: str, body: dict[str, Any]) -> Answer:
        if case in _ODD:
            return _ODD[case]
        message: dict[str, Any] = {"role": "assistant", "content": TEXT, "refusal": None}
        finish, usage = "stop", USAGE
        if case == "parts":
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
            message["content"] = [thinking, {"type": "text", "text": TEXT}]
        elif case == "refusal":
            message |= {"content": None, "refusal": "I can't help with that."}
        elif case == "filtered":
            message["content"], finish = "", "content_filter"
        elif case == "long":
            finish = "length"
        elif case == "uncounted":
            usage = None  # type: ignore[assignment]
        elif case.startswith("json"):
            message["content"] = self._json(case, body)
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": case, "choices": choices}
        return Answer(body=whole | ({"usage": usage} if usage else {}), headers=LIMITS)

    def _json(self, case: str, body: dict[str, Any]) -> str:
        assert body["response_format"]["type"] == "json_schema"
        repaired = _is_repair(body)
        match case:
            case "json-fenced":
                return '```json\n{"name": "Ada", "age": 36}\n```'
            case "json-never" | "json-breaks":
                return '{"name": "my secret text"}'
            case "json-repaired" if not repaired:
                return '{"name": "Ada", "age": "thirty"}'
            case "json-repaired-text" if not repaired:
                return "Here you are: name is Ada"
            case _:
                return '{"name": "Ada", "age": 36}'

    def _stream(self, case: str, body: dict[str, Any]) -> Answer:
        assert body["stream_options"] == {"include_usage": True}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": case}

        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

        start = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in TEXT)]
        done = (b"data: [DONE]\n\n",)
        usage = head | {"choices": [], "usage": USAGE}
        whole = b"".join(sse(*start, chunk({}, "stop"), usage, end=done))
        error = {"error": {"message": "my secret text", "type": "server_error", "code": "overloaded"}}
        crlf = whole.decode().replace("\n", "\r\n").replace("data:", ": ping\r\ndata:").encode()
        # Unescaped, and cut everywhere: in the middle of a character, too.
        raw = b"".join(f"data: {json.dumps(item, ensure_ascii=False)}\n\n".encode() for item in start)
        raw += b"".join(sse(chunk({}, "stop"), usage, end=done))
        odd = {
            "never": Answer(stalls="head"),
            "stalls": Answer(events=sse(*start[:2]), stalls="after"),
            "breaks": Answer(events=sse(*start[:2]), breaks=True),
            "ends": Answer(events=sse(*start)),
            "no-done": Answer(events=sse(*start, chunk({}, "stop"))),
            "error-inside": Answer(events=sse(*start[:2], error)),
            "filtered": Answer(events=sse(*start[:2], chunk({}, "content_filter"), end=done)),
            "crlf": Answer(events=[crlf]),
            "crumbs": Answer(events=[raw[at : at + 1] for at in range(len(raw))]),
            "unstreamed": self._whole("ok", body),
        }
        return odd.get(case, Answer(events=[whole], headers=LIMITS))

    def _embed(self, body: dict[str, Any]) -> Answer:
        if body["model"] in ERRORS:
            return ERRORS[body["model"]]
        if body["model"] == "other":
            return Answer(body={"data": [{"index": 0}]})
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 0.5]}
            for index, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return Answer(body={"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})
