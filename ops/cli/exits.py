"""What the exit code of a command says. Written down here alone; the help of ``pointsman`` shows it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["MEANINGS", "Exit", "exit_of_code", "exit_of_state", "exit_table"]


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

#: The `code` of an error → what the process ends with. Codes that aren't here end it with 1.
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


def exit_of_code(code: str) -> Exit:
    return _OF_CODE.get(code, Exit.FAILED)


def exit_of_state(state: str) -> Exit:
    """The exit code that tells a job's state; `NOT_ENDED` for one that isn't final."""
    return _OF_STATE.get(state, Exit.NOT_ENDED)


def exit_table() -> str:
    """All codes, a line each."""
    return "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())
