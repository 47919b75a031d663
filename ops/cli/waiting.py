"""Waiting for a job with a progress bar, and printing its outcome."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from ops.cli.exits import Failure, describe, exit_of_state
from ops.cli.render import note, print_json, print_text, summary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from producer import AsyncProducer
    from tasks.contract.result import Result

__all__ = ["check_interrupted", "print_outcome", "wait_for"]


async def wait_for(producer: AsyncProducer, job_id: str, *, timeout: float | None) -> Result:
    """Return the result once the job has ended.

    Raises:
        Failure: after `timeout` seconds, for Ctrl-C, or if Redis is lost. Its remedy is the command that waits again.
    """
    from ops.cli.progress import JobProgress

    again = f"pointsman result {job_id} --wait"
    try:
        with JobProgress(job_id) as progress:
            # Closed at once, also after Ctrl-C: the generator holds a connection.
            watching = cast("AsyncGenerator[Result]", producer.watch(job_id, timeout=timeout))
            async with aclosing(watching) as results:
                async for result in results:
                    progress.show(result)
                    check_interrupted()
    except TimeoutError:
        raise Failure(
            "not_ended", f"job {job_id} has not ended after {timeout:g} s; it goes on", remedy=again
        ) from None
    except asyncio.CancelledError:
        raise Failure("interrupted", f"interrupted; job {job_id} goes on", remedy=again) from None
    except Exception as error:
        failure = describe(error)
        if failure.code != "unreachable":
            raise
        raise Failure("unreachable", f"{failure.message}; job {job_id} goes on", remedy=again) from error
    return result


def check_interrupted() -> None:
    """Raise `CancelledError` once more if a Ctrl-C was lost.

    Before Python 3.12, `asyncio.wait_for` swallows a cancellation that arrives just as its awaitable is done
    (python/cpython#86296), and the Redis client sends every command through it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def print_outcome(result: Result, *, as_json: bool) -> int:
    """Print a job's output on stdout and its outcome on stderr; return the exit code."""
    if as_json:
        print_json(result.model_dump(mode="json"))
        return exit_of_state(result.state)
    if result.state == "succeeded":
        print_text(result.output or "")
        sys.stdout.flush()
    elif result.final:
        note(f"pointsman: error: job {result.id} {_outcome(result)}")
        note(f"  try: pointsman explain {result.id}")
    note(summary(result))
    return exit_of_state(result.state)


def _outcome(result: Result) -> str:
    word = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired at its deadline"}[result.state]
    return f"{word}: {result.error}" if result.error and result.state == "failed" else word
