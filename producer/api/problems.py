"""Errors as one body that two kinds of clients read.

The body is RFC 9457's (``type``, ``title``, ``status``, ``detail``, and ``field`` and ``remedy`` where they are
known), with OpenAI's ``error`` object as an extension member: an unmodified ``openai`` client raises its own error with
our code. No problem holds a prompt, an output or a key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from producer.client import JobNotFound
from tasks.contract.errors import BadInput, Unreachable

#: Seconds after which a client may retry: an embedded server is back by then. (OpenAI's clients give up above 120.)
RETRY_AFTER = 2

#: The title of every code.
TITLES: Mapping[str, str] = {
    "malformed_json": "The body is not JSON",
    "bad_input": "The request can't be accepted",
    "unauthorized": "An API key is needed",
    "wrong_host": "This server does not answer to that name",
    "not_found": "There is no such thing",
    "method_not_allowed": "The method does not go with this path",
    "too_large": "The body is too large",
    "unsupported_media_type": "The body must be JSON",
    "unreachable": "Redis does not answer",
    "http_error": "The request was refused",
    "internal_error": "Something went wrong on our side",
}

_CODES = {404: "not_found", 405: "method_not_allowed"}


@dataclasses.dataclass(eq=False)
class ProblemDetails(Exception):
    """The answer to a request, which raises it: `code` for programs, `detail` for people, `status` for HTTP."""

    status: int
    code: str
    detail: str
    field: str | None = None
    remedy: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_bad_input(cls, error: BadInput, *, status: int = 422, code: str = "bad_input") -> ProblemDetails:
        return cls(status, code, f"{error.field}: {error.problem}", error.field, error.remedy or None)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:pointsman:problem:{self.code}",
            "title": TITLES[self.code],
            "status": self.status,
            "detail": self.detail,
        }
        if self.field:
            body["field"] = self.field
        if self.remedy:
            body["remedy"] = self.remedy
        message = f"{self.detail}; {self.remedy}" if self.remedy else self.detail
        body["error"] = {"message": message, "type": self._type, "param": self.field, "code": self.code}
        return body

    @property
    def _type(self) -> str:
        """OpenAI's name for the kind of error."""
        if self.status == 401:
            return "authentication_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def response(self) -> Response:
        return Response(
            json.dumps(self.body, ensure_ascii=False),
            self.status,
            headers={"cache-control": "no-store", **self.headers},
            media_type="application/problem+json",
        )


def problem_of(error: Exception) -> ProblemDetails:
    """The answer for an error; for an unexpected one it says only that there was an error."""
    match error:
        case ProblemDetails():
            return error
        case BadInput():
            return ProblemDetails.of_bad_input(error)
        case JobNotFound():
            return ProblemDetails(404, "not_found", str(error))
        case Unreachable():
            return ProblemDetails(
                503,
                "unreachable",
                str(error),
                remedy="retry; a submission with an idempotency key is accepted once, however often it is sent",
                headers={"retry-after": str(RETRY_AFTER)},
            )
        case HTTPException():
            return _of_http(error)
        case _:
            return ProblemDetails(500, "internal_error", "see the log of the server")


def _of_http(error: HTTPException) -> ProblemDetails:
    code = _CODES.get(error.status_code, "http_error")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if code == "method_not_allowed":
        allowed = headers.get("allow", "")
        return ProblemDetails(405, code, "this path takes other methods", remedy=f"use {allowed}", headers=headers)
    if code == "not_found":
        return ProblemDetails(404, code, "nothing is served at this path", remedy="GET / lists the paths")
    return ProblemDetails(error.status_code, code, error.detail, headers=headers)
