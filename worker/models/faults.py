"""A provider's answer in our terms: the error that it stands for, what its headers say about rate limits.

The error follows from the status, the code and the headers. The text of our errors holds at most the provider's *code
word*, since the provider's message may quote the prompt. The message is only searched for a few phrases, where a
provider has no code for the problem.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

from tasks.contract.errors import (
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ModelError,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RetryableModelError,
    Unauthorized,
    UnusableModelError,
)
from tasks.contract.result import RateLimits

#: Names and values as they came.
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

#: The headers of OpenAI (also of Mistral, Groq, vLLM's gateways) and of Anthropic, and the fields that they fill.
_FIELDS: Mapping[bytes, str] = {
    b"x-ratelimit-limit-requests": "requests_limit",
    b"x-ratelimit-remaining-requests": "requests_left",
    b"x-ratelimit-reset-requests": "requests_reset_s",
    b"x-ratelimit-limit-tokens": "tokens_limit",
    b"x-ratelimit-remaining-tokens": "tokens_left",
    b"x-ratelimit-reset-tokens": "tokens_reset_s",
    b"anthropic-ratelimit-requests-limit": "requests_limit",
    b"anthropic-ratelimit-requests-remaining": "requests_left",
    b"anthropic-ratelimit-requests-reset": "requests_reset_s",
    b"anthropic-ratelimit-tokens-limit": "tokens_limit",
    b"anthropic-ratelimit-tokens-remaining": "tokens_left",
    b"anthropic-ratelimit-tokens-reset": "tokens_reset_s",
}
#: Headers that count where no other one is about tokens: Anthropic's ``tokens`` is the closest of its limits, where it
#: is sent.
_FALLBACKS: Mapping[bytes, str] = {
    b"anthropic-ratelimit-input-tokens-limit": "tokens_limit",
    b"anthropic-ratelimit-input-tokens-remaining": "tokens_left",
    b"anthropic-ratelimit-input-tokens-reset": "tokens_reset_s",
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")

#: Seconds: a provider that asks for a longer wait than this means a budget of the day, not of the minute.
LONG_WAIT_S = 600.0

#: The account is served again when its owner pays or raises a limit. OpenAI's codes and types, then Anthropic's.
_EXHAUSTED = {
    "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded", "billing_hard_limit_reached",
    "billing_not_active", "exceeded_current_quota_error",
    "billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached", "linked_organization_billing_unavailable", "credit_balance_too_low",
}  # fmt: skip
#: Anthropic has no code for an account without credit or at its spend limit: it answers a plain 400.
_EXHAUSTED_WORDS = re.compile(r"credit balance is too low|reached your specified api usage limits|spend(ing)? limit")
_TOO_LONG = {
    "context_length_exceeded", "context_window_exceeded", "exceed_context_size_error", "string_above_max_length",
    "prompt_too_long", "model_context_window_exceeded",
}  # fmt: skip
#: vLLM, Ollama, Anthropic, Gemini and Mistral have no code for it.
_TOO_LONG_WORDS = re.compile(
    r"context (length|window|size|limit)|maximum (model|context) length|max_model_len|prompt is too long"
    r"|input token count.{0,40}exceeds|too large for model with \d+ maximum context|longer than the (maximum|model)"
)
_REFUSED = {
    "content_filter", "content_policy_violation", "responsible_ai_policy_violation", "responsibleaipolicyviolation",
    "prompt_blocked", "moderation_blocked", "invalid_prompt", "content_blocked",
}  # fmt: skip
_UNAUTHORIZED = {
    "invalid_api_key", "api_key_invalid", "authentication_error", "permission_error", "permission_denied",
    "unauthenticated", "failed_precondition", "organization_on_hold",
}  # fmt: skip
_NOT_FOUND = {"model_not_found", "invalid_model", "unknown_model", "not_found_error", "not_found"}
#: The statuses of codes and types, for an error inside a stream or in a 200, which has no status.
_STATUS_OF = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "rate_limit_exceeded": 429,
    "resource_exhausted": 429, "too_many_requests": 429, "invalid_argument": 400, "badrequesterror": 400,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    """The body of an error answer."""

    #: In lower case; the most specific comes first.
    codes: tuple[str, ...] = ()
    #: The first of them as the provider spells it, to be shown.
    shown: str = ""
    #: The message, to be searched for phrases and never shown.
    message: str = ""
    status: int | None = None
    wait_s: float | None = None
    daily: bool = False


def read_error(model: str, status: int, content: bytes, headers: Headers) -> ModelError:
    """The error of an answer that is not 2xx; `model` is our name for the model."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    error = _make_error(model, status, _read(data), read_retry_after(headers))
    error.rate_limits = read_rate_limits(headers)
    return error


def read_error_body(model: str, data: Any) -> ModelError:
    """The error in a stream or in a 2xx, which has nothing but its body."""
    body = _read(data)
    status = body.status or next((_STATUS_OF[code] for code in body.codes if code in _STATUS_OF), 500)
    return _make_error(model, status, body, None)


def _make_error(model: str, status: int, body: _ErrorBody, retry_after: float | None) -> ModelError:
    wait = retry_after if retry_after is not None else body.wait_s
    kind, remedy = _find_kind(status, body, wait)
    text = f"HTTP {status}" + (f" ({body.shown})" if body.shown else "") + f": {remedy}"
    if issubclass(kind, RetryableModelError | UnusableModelError):
        return kind(model, text, status=status, retry_after=wait)
    return kind(model, text, status=status)


def _find_kind(status: int, body: _ErrorBody, wait: float | None) -> tuple[type[ModelError], str]:
    if status == 402 or (400 <= status < 500 and _is_exhausted(status, body, wait)):
        return QuotaExhausted, "its account's quota, credit or spend limit is used up; raise it at the provider"
    if status == 429:
        return RateLimited, "over its rate limit"
    if status in {408, 409, 425, 499} or status >= 500:
        return Overloaded, "overloaded or broken"
    return _find_refusal(status, body)


def _find_refusal(status: int, body: _ErrorBody) -> tuple[type[ModelError], str]:
    codes = body.codes
    if _REFUSED.intersection(codes):
        return ContentRefused, "the provider blocks this input; change it"
    if status in {401, 403} or _UNAUTHORIZED.intersection(codes):
        return Unauthorized, "the key is missing or refused; check the variable named by api_key_env"
    if status not in {400, 413, 422} or _NOT_FOUND.intersection(codes):
        return ModelNotFound, "no such model or address; check model and base_url in the configuration"
    if _TOO_LONG.intersection(codes) or _TOO_LONG_WORDS.search(body.message):
        return (
            ContextTooLong,
            "input and output don't fit into its context window; split the input or lower max_tokens",
        )
    return BadRequest, "it refuses this request; check the job's parameters and its length"


def _is_exhausted(status: int, body: _ErrorBody, wait: float | None) -> bool:
    if _EXHAUSTED.intersection(body.codes):
        return True
    if status == 429:
        return body.daily or (wait is not None and wait > LONG_WAIT_S)
    return status in {400, 403} and _EXHAUSTED_WORDS.search(body.message) is not None


def _read(data: Any) -> _ErrorBody:
    """The shapes: ``{"error": {…}}``, flat (vLLM), ``{"error": "text"}`` (Ollama), a list of one (Gemini)."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return _ErrorBody()
    error = data.get("error", data)
    if isinstance(error, str):
        return _ErrorBody(message=error.lower())
    if not isinstance(error, dict):
        return _ErrorBody()
    codes = [code for code in _read_codes(error) if code]
    number = error.get("code")
    status = number if isinstance(number, int) and 400 <= number < 600 else None
    daily, wait = _read_quota(error.get("details"))
    message = error.get("message")
    return _ErrorBody(
        codes=tuple(code.lower() for code in codes),
        shown=next(iter(codes), ""),
        message=message.lower() if isinstance(message, str) else "",
        status=status,
        wait_s=wait,
        daily=daily,
    )


def _read_codes(error: Mapping[str, Any]) -> Iterator[str]:
    """The provider's machine-readable codes, the most specific first."""
    details = error.get("details")
    if isinstance(details, dict):  # Anthropic
        yield _word(details.get("error_code"))
    for detail in details if isinstance(details, list) else ():  # Gemini
        yield _word(detail.get("reason")) if isinstance(detail, dict) else ""
    inner = error.get("innererror")
    if isinstance(inner, dict):  # Azure
        yield _word(inner.get("code"))
    for field in ("code", "type", "status"):
        yield _word(error.get(field))


def _word(value: Any) -> str:
    """`value` if it is one word, else ""; a sentence may quote the prompt."""
    return value if isinstance(value, str) and re.fullmatch(r"\w{1,60}", value, re.ASCII) else ""


def _read_quota(details: Any) -> tuple[bool, float | None]:
    """From Google's error details: whether a quota of the day is used up, and the seconds to wait."""
    daily, wait = False, None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if isinstance(delay := detail.get("retryDelay"), str):
            wait = parse_seconds(delay)
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            quota = violation.get("quotaId") if isinstance(violation, dict) else None
            daily = daily or (isinstance(quota, str) and "perday" in quota.lower())
    return daily, wait


def read_rate_limits(headers: Headers) -> RateLimits | None:
    """The rate limits in the raw headers of an answer; None where there are none."""
    found: dict[str, Any] = {}
    # One pass over all headers: this runs for every answer.
    for name, value in headers:
        if len(name) < 24:  # the shortest of the names above has 24 bytes, most other headers have fewer
            continue
        lower = name.lower()
        field = _FIELDS.get(lower)
        if field is None and ((field := _FALLBACKS.get(lower)) is None or field in found):
            continue
        read = parse_seconds(value.decode("latin-1")) if field.endswith("_s") else _count(value.decode("latin-1"))
        if read is not None:
            found[field] = read
    return RateLimits(**found) if found else None


def read_retry_after(headers: Headers) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``retry-after``, which may also be an HTTP date."""
    texts = {name.lower(): value.decode("latin-1") for name, value in headers}
    exact = _number(texts.get(b"retry-after-ms", ""))
    if exact is not None:
        return exact / 1000
    text = texts.get(b"retry-after", "").strip()
    plain = _number(text)
    if plain is not None or not text:
        return plain
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return _until(moment)


def parse_seconds(text: str) -> float | None:
    """Seconds until a reset, from ``12ms``, ``6m0s``, a bare number of seconds or a time of RFC 3339."""
    text = text.strip()
    if (plain := _number(text)) is not None:
        return plain
    if _SPAN.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
    try:
        return _until(datetime.fromisoformat(text))
    except ValueError:
        return None


def _until(moment: datetime) -> float:
    """Seconds from now, at least 0; a time without a zone is UTC, as HTTP dates are."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - time.time())


def _count(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _number(text: str) -> float | None:
    """A number that is neither negative, nor infinite, nor NaN."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
