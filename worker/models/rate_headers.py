"""What the headers of an answer say about rate limits and about waiting."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

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
