"""What a provider's refusal means: from status, code and headers to the one error of ours that says what to do.

The text of our errors holds the provider's *code word* at most: its message may quote the prompt. The message is only
looked at for a few phrases, where a provider has no code of its own for what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
from worker.models.limits import rate_limits, retry_after, seconds_of

__all__ = ["LONG_WAIT_S", "fault", "fault_in"]

#: Seconds: a provider that asks for a longer wait than this means a budget of the day, not of the minute.
LONG_WAIT_S = 600.0

#: Nobody is served until somebody pays or raises a limit. OpenAI's codes and types, then Anthropic's.
_EXHAUSTED = {
    "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "organization_usage_limit_exceeded", "billing_hard_limit_reached",
    "billing_not_active", "exceeded_current_quota_error",
    "billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached", "linked_organization_billing_unavailable", "credit_balance_too_low",
}  # fmt: skip
#: Anthropic answers 400 with no code of its own to an account without credit or at its spend limit.
_EXHAUSTED_WORDS = re.compile(r"credit balance is too low|reached your specified api usage limits|spend(ing)? limit")
_TOO_LONG = {
    "context_length_exceeded", "context_window_exceeded", "exceed_context_size_error", "string_above_max_length",
    "prompt_too_long", "model_context_window_exceeded",
}  # fmt: skip
#: vLLM, Ollama, Anthropic, Gemini and Mistral say it in words alone.
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
#: An error inside a stream, or in a 200, has no status; its code or type stands for one.
_STATUS_OF = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "rate_limit_exceeded": 429,
    "resource_exhausted": 429, "too_many_requests": 429, "invalid_argument": 400, "badrequesterror": 400,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Told:
    """What the body of an error tells."""

    #: Lower case; the most telling comes first.
    codes: tuple[str, ...] = ()
    #: The first of them as the provider spells it, for people.
    shown: str = ""
    #: For phrases only; never shown.
    words: str = ""
    status: int | None = None
    wait_s: float | None = None
    daily: bool = False


def fault(
    model: str, status: int, content: bytes, headers: Mapping[str, str], raw: Iterable[tuple[bytes, bytes]] = ()
) -> ModelError:
    """The error of an answer that isn't 2xx; `model` is our name for it, `raw` are its headers as they came."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    error = _decide(model, status, _read(data), retry_after(headers))
    error.rate_limits = rate_limits(raw)
    return error


def fault_in(model: str, data: Any) -> ModelError:
    """The error that stands in a stream or in a 2xx, where only its body tells what it is."""
    told = _read(data)
    status = told.status or next((_STATUS_OF[code] for code in told.codes if code in _STATUS_OF), 500)
    return _decide(model, status, told, None)


def _decide(model: str, status: int, told: _Told, asked: float | None) -> ModelError:
    wait = asked if asked is not None else told.wait_s
    kind, remedy = _kind(status, told, wait)
    said = f"HTTP {status}" + (f" ({told.shown})" if told.shown else "") + f": {remedy}"
    if issubclass(kind, RetryableModelError | UnusableModelError):
        return kind(model, said, status=status, retry_after=wait)
    return kind(model, said, status=status)


def _kind(status: int, told: _Told, wait: float | None) -> tuple[type[ModelError], str]:
    if status == 402 or (400 <= status < 500 and _is_exhausted(status, told, wait)):
        return QuotaExhausted, "its account's quota, credit or spend limit is used up; raise it at the provider"
    if status == 429:
        return RateLimited, "over its rate limit"
    if status in {408, 409, 425, 499} or status >= 500:
        return Overloaded, "overloaded or broken"
    return _kind_of_refusal(status, told)


def _kind_of_refusal(status: int, told: _Told) -> tuple[type[ModelError], str]:
    codes = told.codes
    if _REFUSED.intersection(codes):
        return ContentRefused, "the provider blocks this input; change it"
    if status in {401, 403} or _UNAUTHORIZED.intersection(codes):
        return Unauthorized, "the key is missing or refused; check the variable named by api_key_env"
    if status not in {400, 413, 422} or _NOT_FOUND.intersection(codes):
        return ModelNotFound, "no such model or address; check model and base_url in the configuration"
    if _TOO_LONG.intersection(codes) or _TOO_LONG_WORDS.search(told.words):
        return (
            ContextTooLong,
            "input and output don't fit into its context window; split the input or lower max_tokens",
        )
    return BadRequest, "it refuses this request; check the job's parameters and its length"


def _is_exhausted(status: int, told: _Told, wait: float | None) -> bool:
    if _EXHAUSTED.intersection(told.codes):
        return True
    if status == 429:
        return told.daily or (wait is not None and wait > LONG_WAIT_S)
    return status in {400, 403} and _EXHAUSTED_WORDS.search(told.words) is not None


def _read(data: Any) -> _Told:
    """The shapes: ``{"error": {…}}``, flat (vLLM), ``{"error": "text"}`` (Ollama), a list of one (Gemini)."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return _Told()
    error = data.get("error", data)
    if isinstance(error, str):
        return _Told(words=error.lower())
    if not isinstance(error, dict):
        return _Told()
    words = [word for word in _codes(error) if word]
    number = error.get("code")
    status = number if isinstance(number, int) and 400 <= number < 600 else None
    daily, wait = _quota(error.get("details"))
    message = error.get("message")
    return _Told(
        codes=tuple(word.lower() for word in words),
        shown=next(iter(words), ""),
        words=message.lower() if isinstance(message, str) else "",
        status=status,
        wait_s=wait,
        daily=daily,
    )


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    """The provider's machine-readable words, the most telling first."""
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
    """`value` where it is one word; a sentence may quote the prompt."""
    return value if isinstance(value, str) and re.fullmatch(r"\w{1,60}", value, re.ASCII) else ""


def _quota(details: Any) -> tuple[bool, float | None]:
    """Of Google's error details: is a quota of the day used up, and the seconds to wait."""
    daily, wait = False, None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if isinstance(delay := detail.get("retryDelay"), str):
            wait = seconds_of(delay)
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            quota = violation.get("quotaId") if isinstance(violation, dict) else None
            daily = daily or (isinstance(quota, str) and "perday" in quota.lower())
    return daily, wait
