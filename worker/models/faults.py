"""Whose fault an error is: the request's, the key's or account's, the model's, or the network's.

It follows from the status, the code words, the headers and the form of the body. The text of our errors holds at most
the provider's *code word* and the name of a field, since the provider's message may quote the prompt. The message is
searched for phrases where a provider has no code for the problem; except for sentences that must stand at its
start, a phrase can only put the fault on the request or the way there: no prompt that is quoted there closes a model.
"""

from __future__ import annotations

import re
from typing import Any

from tasks.contract.errors import (
    BadRequest,
    ModelError,
    PermanentModelError,
    RetryableModelError,
    UnusableModelError,
)
from worker.models.error_report import ErrorReport, read_report
from worker.models.fault_codes import (
    ACCOUNT,
    BAD,
    BLOCKED,
    CODES,
    DOWN,
    KEY,
    MISSING,
    NOT_HERE,
    PAGE,
    RATE,
    REFUSED,
    TOO_LARGE,
    TOO_LONG,
    Fault,
    find_family,
)
from worker.models.json_body import read_json
from worker.models.rate_headers import Headers, read_rate_limits, read_retry_after

#: Seconds: a provider that asks for a longer wait than this means a budget of the day, not of the minute.
LONG_WAIT_S = 600.0

#: At the start of a message. Anthropic has no code for an account without credit or at its spend limit, DeepSeek and
#: Moonshot none for a model that they don't have: they answer a plain 400.
_EXHAUSTED_WORDS = re.compile(r"your credit balance is too low|you have reached your specified api usage limits")
_MISSING_WORDS = re.compile(r"(the )?model (\S{1,200} )?((does )?not exist|(is )?not found)")
#: vLLM, Ollama, Anthropic, Gemini and Mistral have no code for it.
_TOO_LONG_WORDS = re.compile(
    r"context (length|window|size|limit)|maximum (model|context) length|max_model_len|prompt is too long"
    r"|input token count.{0,40}exceeds|too large for model with \d+ maximum context|longer than the (maximum|model)"
    r"|prompt exceeds max|(input|prompt)( is)? too long|max_new_tokens.{0,20}must be <="
)
#: More tokens in one request than a minute, or the rest of the credit, has room for: waiting does not help.
_TOO_LARGE_WORDS = re.compile(r"request too large|can only afford|fewer max_tokens|prompt tokens limit exceeded")
_LIMIT_AND_REQUEST = re.compile(r"limit:? (\d{1,12})\b.{0,80}requested:? (\d{1,12})\b")
_REFUSED_WORDS = re.compile(
    r"input flagged|flagged (as|by|for)|moderation|content (policy|management|filter)|safety (system|filter|polic)"
    r"|usage polic|prohibited content|inappropriate content"
)
_NOT_HERE_WORDS = re.compile(
    r"(country|region|territory|location).{0,40}(not|un)[ -]?(supported|available)"
    r"|not (supported|available).{0,30}(country|region|territory|location)|no endpoints found (that|matching)"
)
_ON_THE_WAY_WORDS = re.compile(r"network settings|cloudflare|firewall|\bvpn\b|\bwaf\b|ip address")
#: A gateway's sentence in a 200 without a code.
_RATE_WORDS = re.compile(r"rate.?limit|too many requests|slow down|throttl")
_OTHER_THINGS = re.compile(r"\b(file|document|image|url|container|conversation|response|thread|vector store)s?\b")
_BUSY = frozenset({408, 409, 425, 499})
_BY_STATUS = {400: BAD, 413: BAD, 422: BAD, 401: KEY, 429: RATE}
#: No such model or address. Any other 4xx says nothing that would hold for every request.
_ADDRESS = frozenset({404, 405, 406, 410, 411, 415, 426})
#: What a 403 speaks of at its start, where it is the key's. One that says nothing may be about this prompt.
_KEY_WORDS = re.compile(
    r".{0,120}\b(key|token|auth\w*|unauthori\w+|permissions?|access|credentials?|organi[sz]ation|project|account"
    r"|allowed to)\b",
    re.DOTALL,
)


def read_error(model: str, status: int, content: bytes, headers: Headers) -> ModelError:
    """The error of an answer that is not 2xx; `model` is our name for the model."""
    headers = tuple(headers)
    try:
        data = read_json(content)
    except ValueError:
        data = None
    is_page = content.lstrip()[:1] == b"<"
    if status in {407, 511} or (status == 400 and is_page) or (status == 403 and not isinstance(data, dict | list)):
        # Each provider's API answers in JSON: this came from something on the way there.
        return _make_error(model, status, PAGE, ErrorReport(), headers)
    report = read_report(data)
    return _make_error(model, status, _find_fault(status, report, _wait(report, headers)), report, headers)


def read_error_body(model: str, data: Any, headers: Headers = ()) -> ModelError:
    """The error in a stream or in a 2xx: it is read as its status would be, which its words give."""
    headers = tuple(headers)
    report = read_report(data)
    known = _find_known(report) or next(filter(None, map(find_family, report.codes)), None)
    unnamed = 429 if _RATE_WORDS.search(report.message) else 500
    status = report.status or (known.status if known is not None else unnamed)
    fault = _find_fault(status, report, _wait(report, headers))
    return _make_error(model, status, fault, report, headers)


def _wait(report: ErrorReport, headers: Headers) -> float | None:
    asked = read_retry_after(headers)
    return report.wait_s if asked is None else asked


def _make_error(model: str, status: int, fault: Fault, report: ErrorReport, headers: Headers) -> ModelError:
    words = " at ".join(filter(None, (report.shown, report.field)))
    remedy = fault.remedy
    if fault.kind is BadRequest and report.field:
        remedy = f"it refuses the field {report.field}; change it or leave it out"
    error = fault.kind(model, f"HTTP {status}{f' ({words})' if words else ''}: {remedy}", status=status)
    if isinstance(error, RetryableModelError | UnusableModelError):
        error.retry_after = _wait(report, headers)
    if isinstance(error, BadRequest):
        error.refused = report.refused
    error.rate_limits = read_rate_limits(headers)
    return error


def _find_fault(status: int, report: ErrorReport, wait: float | None) -> Fault:
    known = _find_known(report)
    fault = _find_fault_of_request(status, report, known)
    if fault is not None:
        return fault
    if status in _BUSY or status >= 500:
        return DOWN  # a broken server proves nothing about a key
    if status == 402 or _is_exhausted(status, report, known, wait):
        return ACCOUNT
    if status == 400 and _MISSING_WORDS.match(report.message):
        return MISSING
    if status != 429 and known is not None and issubclass(known.kind, UnusableModelError):
        return known
    default = MISSING if status < 400 or status in _ADDRESS else DOWN
    if status == 403:
        default = KEY if _KEY_WORDS.match(report.message) else BLOCKED
    return _BY_STATUS.get(status, default)


def _find_known(report: ErrorReport) -> Fault | None:
    """The fault that its code words say. A word that no table has can put it on the request alone."""
    listed = next((CODES[code] for code in report.codes if code in CODES), None)
    families = filter(None, map(find_family, report.codes))
    own = (family for family in families if family is not BAD and issubclass(family.kind, PermanentModelError))
    return next(own, listed) if listed is None or listed is BAD else listed


def _find_fault_of_request(status: int, report: ErrorReport, known: Fault | None) -> Fault | None:
    """The fault, where it is of this request alone, or of the way there: it closes no model."""
    message = report.message
    bad, broken = status in {400, 413, 422}, status >= 500
    checks: tuple[tuple[Any, Fault | None], ...] = (
        (known is not None and known is not BAD and issubclass(known.kind, PermanentModelError), known),
        (status in {402, 413, 429} and (_TOO_LARGE_WORDS.search(message) or _asks_too_much(message)), TOO_LARGE),
        ((bad or broken) and _TOO_LONG_WORDS.search(message), TOO_LONG),
        (status == 413, TOO_LARGE),
        (status in {400, 403, 422} and (report.flagged or _REFUSED_WORDS.search(message)), REFUSED),
        (status == 451 or (status in {400, 403, 404} and _NOT_HERE_WORDS.search(message)), NOT_HERE),
        (status == 403 and _ON_THE_WAY_WORDS.search(message), PAGE),
        # A file or the like that the request names.
        (status == 404 and "model" not in message and _OTHER_THINGS.search(message), BAD),
    )
    return next((fault for holds, fault in checks if holds), None)


def _asks_too_much(message: str) -> bool:
    found = _LIMIT_AND_REQUEST.search(message)
    return found is not None and int(found[2]) > int(found[1])


def _is_exhausted(status: int, report: ErrorReport, known: Fault | None, wait: float | None) -> bool:
    if known is ACCOUNT:
        return True
    if status == 429:
        return report.daily or (wait is not None and wait > LONG_WAIT_S)
    return status in {400, 403} and _EXHAUSTED_WORDS.match(report.message) is not None
