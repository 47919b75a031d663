"""Waiting for a job before the user's eyes, and telling how it ended."""

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

__all__ = ["check_interrupted", "conclude", "wait_for"]


async def wait_for(producer: AsyncProducer, job_id: str, *, timeout: float | None) -> Result:
    """The result once the job has ended. Whatever ends the waiting earlier, the user learns how to take it up again.

    Raises:
        Failure: if it hasn't ended after `timeout` seconds, for Ctrl-C, or if Redis went away meanwhile.
    """
    from ops.cli.progress import JobProgress

    again = f"pointsman result {job_id} --wait"
    try:
        with JobProgress(job_id) as progress:
            # Closed here and now, also when we are interrupted: it holds a connection.
            watching = cast("AsyncGenerator[Result]", producer.watch(job_id, timeout=timeout))
            async with aclosing(watching) as looks:
                async for result in looks:
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
    """Raise `CancelledError` once more if Ctrl-C was pressed and it got lost.

    Before Python 3.12, `asyncio.wait_for` swallows a cancellation that comes just as what it waits for is done
    (python/cpython#86296), and the Redis client sends every command through it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def conclude(result: Result, *, as_json: bool) -> int:
    """Print what became of a job: the output on stdout, all else on stderr; returns the exit code."""
    if as_json:
        print_json(result.model_dump(mode="json"))
        return exit_of_state(result.state)
    if result.state == "succeeded":
        print_text(result.output or "")
        sys.stdout.flush()
    elif result.final:
        note(f"pointsman: error: job {result.id} {_ended_as(result)}")
        note(f"  try: pointsman explain {result.id}")
    note(summary(result))
    return exit_of_state(result.state)


def _ended_as(result: Result) -> str:
    word = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired at its deadline"}[result.state]
    return f"{word}: {result.error}" if result.error and result.state == "failed" else word
