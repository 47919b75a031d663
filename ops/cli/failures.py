"""How a command says that it can't: one or two lines on stderr, and with ``--json`` an object on stdout."""

from __future__ import annotations

import json
import os
import sys

from ops.cli.exits import Exit, exit_of_code

__all__ = ["Failure", "debugging", "describe", "error_object", "report"]

#: What to do about it, where the error itself doesn't say.
_REMEDIES = {
    "unreachable": "start everything with `pointsman up`, or set POINTSMAN_REDIS_URL to your server",
}


class Failure(Exception):
    """An end that was foreseen. `code` is the stable word for programs, `remedy` what the user can do."""

    def __init__(self, code: str, message: str, *, field: str | None = None, remedy: str = "") -> None:
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy or _REMEDIES.get(code, "")
        super().__init__(message)

    @property
    def exit(self) -> Exit:
        return exit_of_code(self.code)


def debugging() -> bool:
    """Whether tracebacks are wanted: ``--verbose`` or POINTSMAN_DEBUG."""
    return os.environ.get("POINTSMAN_DEBUG", "") not in {"", "0"}


def describe(error: BaseException) -> Failure:
    """What is told of any error. One that nobody foresaw is told as a defect."""
    if isinstance(error, Failure):
        return error
    from tasks.contract.errors import BadInput, PointsmanError

    if isinstance(error, BadInput):
        return Failure(error.code, f"{error.field}: {error.problem}", field=error.field, remedy=error.remedy)
    if isinstance(error, PointsmanError):
        return Failure(error.code, str(error))
    if _lost_server(error):
        return Failure("unreachable", f"the connection to Redis was lost ({type(error).__name__})")
    return Failure(
        "internal",
        f"{type(error).__name__}: {error}",
        remedy="this is a defect of pointsman: please report it with what POINTSMAN_DEBUG=1 prints",
    )


def _lost_server(error: BaseException) -> bool:
    """Whether it is a client library's own word for a broken connection. Without that library loaded it can't be."""
    if "redis" in sys.modules:
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
            return True
    if "kombu" in sys.modules:
        from kombu.exceptions import OperationalError

        return isinstance(error, OperationalError)
    return False


def error_object(failure: Failure) -> dict[str, str | None]:
    return {
        "code": failure.code,
        "message": failure.message,
        "field": failure.field,
        "remedy": failure.remedy or None,
    }


def report(failure: Failure, *, as_json: bool) -> int:
    """Tell it; returns the exit code."""
    if as_json:
        print(json.dumps({"error": error_object(failure)}, ensure_ascii=False, indent=2))
    for line in failure.message.splitlines() or [failure.code]:
        print(f"pointsman: error: {line}", file=sys.stderr)
    if failure.remedy:
        print(f"  try: {failure.remedy}", file=sys.stderr)
    return failure.exit
