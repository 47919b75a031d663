"""The body of an error answer, in whatever form it comes.

``{"error": {…}}``, flat (vLLM, gateways), ``{"error": "text"}`` (Ollama), ``{"detail": …}`` (FastAPI), ``{"errors":
[…]}`` (Cloudflare), ``{"base_resp": {…}}`` (MiniMax), a list of one (Gemini), with the error of the provider behind a
gateway inside (OpenRouter).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker.models.json_body import read_json
from worker.models.rate_headers import parse_seconds
from worker.models.refused_fields import find_refused

_MESSAGES = ("message", "msg", "error_msg", "error_message", "errorMessage", "status_msg", "detail", "Message")
_CODES = ("code", "type", "status", "error", "error_code", "errorCode", "Code", "__type", "reason")
_STATUSES = ("code", "status", "status_code", "statusCode", "error_code", "http_status")
#: A status that a gateway quotes at the start of a message.
_QUOTED_STATUS = re.compile(r"(?:error code|status code|status|http)[:\s]{1,3}([45]\d\d)\b")


@dataclass(frozen=True, slots=True)
class ErrorReport:
    #: In lower case; the most specific comes first.
    codes: tuple[str, ...] = ()
    #: The first of them as the provider spells it, to be shown.
    shown: str = ""
    #: The field of the request that it names.
    field: str = ""
    #: Our name of the field that it refuses by name, see `find_refused`.
    refused: str = ""
    #: The message, to be searched for phrases and never shown.
    message: str = ""
    status: int | None = None
    wait_s: float | None = None
    daily: bool = False
    #: Whether a moderation speaks, with its reasons.
    flagged: bool = False


def says_error(data: Mapping[str, Any], *answers: str) -> bool:
    """Whether a 2xx body is an error. `answers` are the fields of which an answer has one."""
    if data.get("error") or data.get("object") == "error" or data.get("type") == "error":
        return True
    if isinstance(inner := data.get("base_resp"), Mapping) and inner.get("status_code"):
        return True
    if any(data.get(field) is not None for field in answers):
        return False
    if data.get("errors") or data.get("detail"):
        return True
    return any(isinstance(data.get(field), str) for field in ("message", "msg", "error_msg", "code", "error_code"))


def read_report(data: Any) -> ErrorReport:
    """The error in a body; an empty report where it has no known form."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, Mapping):
        return ErrorReport()
    error = _find_error(data)
    inner = _read_inner(error)
    codes = [*inner.codes, *(code for code in _read_codes(error) if code)]
    words = [code for code in codes if not _is_status(code)]
    message = next((text for field in _MESSAGES if isinstance(text := error.get(field), str)), "")[:20_000].lower()
    quoted = _QUOTED_STATUS.match(message)
    numbers = (int(str(error[field])) for field in _STATUSES if _is_status(error.get(field)))
    daily, wait = _read_quota(error.get("details"))
    metadata = error.get("metadata")
    return ErrorReport(
        codes=tuple(code.lower() for code in words),
        shown=next(iter(words), ""),
        field=inner.field or _read_field(error),
        refused=find_refused(data),
        message=f"{message}\n{inner.message}" if inner.message else message,
        status=next(numbers, int(quoted[1]) if quoted else inner.status),
        wait_s=wait,
        daily=daily,
        flagged=isinstance(metadata, Mapping) and ("flagged_input" in metadata or "reasons" in metadata),
    )


def _find_error(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that describes the error."""
    for field in ("error", "base_resp", "detail", "errors", "fault"):
        found = data.get(field)
        if isinstance(found, list):
            found = next((item for item in found if isinstance(item, Mapping)), None)
        if isinstance(found, Mapping):
            return found
        if field == "error" and isinstance(found, str):
            # A word is a code; a sentence is a message.
            return data if _word(found) else {**data, "message": found}
    return data


def _read_inner(error: Mapping[str, Any]) -> ErrorReport:
    """The error of the provider behind a gateway, as the gateway quotes it."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if not isinstance(raw, str) or not raw.lstrip().startswith("{"):
        return ErrorReport()
    try:
        data = read_json(raw)
    except ValueError:
        return ErrorReport()
    # Once: a quote inside the quote is not followed.
    error = {key: value for key, value in _find_error(data).items() if key != "metadata"}
    return read_report(error)


def _read_codes(error: Mapping[str, Any]) -> Iterator[str]:
    """The provider's machine-readable codes, the most specific first."""
    details = error.get("details")
    if isinstance(details, Mapping):  # Anthropic
        yield _word(details.get("error_code"))
    for detail in details if isinstance(details, list) else ():  # Gemini
        yield _word(detail.get("reason")) if isinstance(detail, Mapping) else ""
    inner = error.get("innererror")
    if isinstance(inner, Mapping):  # Azure
        yield _word(inner.get("code"))
    for field in _CODES:
        yield _word(error.get(field))
    for field in ("status_code", "code", "error_code"):
        if isinstance(number := error.get(field), int) and not isinstance(number, bool):
            yield str(number) if 1000 <= number < 1_000_000 else ""


def _read_field(error: Mapping[str, Any]) -> str:
    """The field of the request that the error names: OpenAI's ``param``, FastAPI's ``loc``, Google's violations."""
    if isinstance(loc := error.get("loc"), list):
        return _path(".".join(str(step) for step in loc if step != "body"))
    for detail in details if isinstance(details := error.get("details"), list) else ():
        violations = detail.get("fieldViolations") if isinstance(detail, Mapping) else None
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, Mapping) and (field := _path(violation.get("field"))):
                return field
    return _path(error.get("param"))


def _path(value: Any) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[\w.\[\]-]{1,80}", value, re.ASCII) else ""


def _is_status(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return re.fullmatch(r"[45]\d\d", str(value)) is not None


def _word(value: Any) -> str:
    """`value` if it is one word, else ""; a sentence may quote the prompt."""
    if not isinstance(value, str):
        return ""
    value = value.rpartition("#")[2]  # Amazon's name of a shape
    return value if re.fullmatch(r"[\w.-]{1,60}", value, re.ASCII) else ""


def _read_quota(details: Any) -> tuple[bool, float | None]:
    """From Google's error details: whether a quota of the day is used up, and the seconds to wait."""
    daily, wait = False, None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, Mapping):
            continue
        if isinstance(delay := detail.get("retryDelay"), str):
            wait = parse_seconds(delay)
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            quota = violation.get("quotaId") if isinstance(violation, Mapping) else None
            daily = daily or (isinstance(quota, str) and "perday" in quota.lower())
    return daily, wait
