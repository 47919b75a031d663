"""How a command ends: its exit code, and the one or two lines on stderr (an object with ``--json``) of a failure."""

from __future__ import annotations

import json
import os
import sys
from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    NOT_ENDED = 5
    STOPPED = 6
    INTERNAL = 70
    INTERRUPTED = 130
    PIPE = 141


#: Shown in the help of ``pointsman`` and in `docs/reference/exit-codes.md`.
MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; with --wait: the job succeeded",
    Exit.FAILED: "the job failed, or doctor found something broken",
    Exit.USAGE: "bad usage, bad input or a bad configuration; nothing was accepted",
    Exit.UNREACHABLE: "Redis does not answer",
    Exit.NOT_FOUND: "no such job, batch or schedule",
    Exit.NOT_ENDED: "the job has not ended in time; it goes on",
    Exit.STOPPED: "the job was cancelled, or expired at its deadline",
    Exit.INTERNAL: "a defect of this program",
    Exit.INTERRUPTED: "Ctrl-C; what was submitted goes on",
    Exit.PIPE: "the reader of stdout went away",
}

#: The `code` of an error → the exit code; `FAILED` for every other code.
_OF_CODE = {
    "usage": Exit.USAGE,
    "bad_input": Exit.USAGE,
    "bad_config": Exit.USAGE,
    "unreachable": Exit.UNREACHABLE,
    "not_found": Exit.NOT_FOUND,
    "not_ended": Exit.NOT_ENDED,
    "internal": Exit.INTERNAL,
    "interrupted": Exit.INTERRUPTED,
}
_OF_STATE = {"succeeded": Exit.OK, "failed": Exit.FAILED, "cancelled": Exit.STOPPED, "expired": Exit.STOPPED}

#: By code: the remedy of errors that name none.
_REMEDIES = {
    "unreachable": "start everything with `pointsman up`, or set POINTSMAN_REDIS_URL to your server",
}


class Failure(Exception):
    """An expected failure of a command. `code` is a stable word for programs, `remedy` what the user can do."""

    def __init__(self, code: str, message: str, *, field: str | None = None, remedy: str = "") -> None:
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy or _REMEDIES.get(code, "")
        super().__init__(message)

    @property
    def exit(self) -> Exit:
        return _OF_CODE.get(self.code, Exit.FAILED)


def unknown_job(job_id: str) -> Failure:
    """The failure of a command on a job that does not exist."""
    return Failure("not_found", f"no job {job_id!r}; it was never accepted, or its record has expired")


def exit_of_state(state: str) -> Exit:
    """Return the exit code for a job's state; `NOT_ENDED` for a state that isn't final."""
    return _OF_STATE.get(state, Exit.NOT_ENDED)


def exit_table() -> str:
    """Return all exit codes with their meanings, a line each."""
    return "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())


def describe(error: BaseException) -> Failure:
    """Return any error as a `Failure`; an unexpected one is described as a defect of this program."""
    if isinstance(error, Failure):
        return error
    from tasks.contract.errors import BadInput, PointsmanError

    if isinstance(error, BadInput):
        return Failure(error.code, f"{error.field}: {error.problem}", field=error.field, remedy=error.remedy)
    if isinstance(error, PointsmanError):
        return Failure(error.code, str(error))
    if _is_lost_connection(error):
        return Failure("unreachable", f"the connection to Redis was lost ({type(error).__name__})")
    return Failure(
        "internal",
        f"{type(error).__name__}: {error}",
        remedy="this is a defect of pointsman: please report it with what POINTSMAN_DEBUG=1 prints",
    )


def _is_lost_connection(error: BaseException) -> bool:
    """Whether a client library reports a broken connection. A library that is not loaded raised nothing."""
    if "redis" in sys.modules:
        from redis.exceptions import ConnectionError as RedisConnectionError
        from redis.exceptions import TimeoutError as RedisTimeoutError

        if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
            return True
    if "kombu" in sys.modules:
        from kombu.exceptions import OperationalError

        return isinstance(error, OperationalError)
    return False


def print_failure(failure: Failure, *, as_json: bool) -> int:
    """Print a failure and return its exit code."""
    if as_json:
        error = {
            "code": failure.code,
            "message": failure.message,
            "field": failure.field,
            "remedy": failure.remedy or None,
        }
        print(json.dumps({"error": error}, ensure_ascii=False, indent=2))
    for line in failure.message.splitlines() or [failure.code]:
        print(f"pointsman: error: {line}", file=sys.stderr)
    if failure.remedy:
        print(f"  try: {failure.remedy}", file=sys.stderr)
    return failure.exit


def wants_traceback() -> bool:
    """Whether ``--verbose`` or POINTSMAN_DEBUG asks for the traceback of errors."""
    return os.environ.get("POINTSMAN_DEBUG", "") not in {"", "0"}
