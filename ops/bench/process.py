"""Processes of a benchmark: servers that report when they are ready, and peers that run commands."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from ops.up.processes import Child
from tasks.contract.errors import Unreachable

#: Seconds within which a process must be ready: LiteLLM alone takes a good part of it to import.
START_TIMEOUT = 90.0
#: Seconds to end by itself; then it is killed.
GRACE = 15.0


async def until(condition: Callable[[], bool], what: str, *, within: float = START_TIMEOUT) -> None:
    """Wait for something that sends no event.

    Raises:
        Unreachable: naming `what`, past `within` seconds.
    """
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise Unreachable(f"{what} did not happen within {within:g} s")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def bench_folder() -> AsyncIterator[tuple[AsyncExitStack, Path]]:
    """A temporary folder, and the contexts of a benchmark, which end before the folder goes."""
    async with AsyncExitStack() as ends:
        yield ends, Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="pm-bench-")))


@asynccontextmanager
async def serving(
    name: str, command: Sequence[str], *, folder: Path, env: Mapping[str, str], ready_variable: str = ""
) -> AsyncIterator[Child]:
    """A process that runs while the context is entered; its log is ``<name>.log`` in `folder`.

    It makes the file ``<name>.ready`` once it answers, whose path it has from the variable `ready_variable`, or else
    from its option ``--ready-file``.

    Raises:
        Unreachable: if it ends or isn't ready in time; the end of its log is in the message.
    """
    ready = folder / f"{name}.ready"
    words = [sys.executable, *command] + ([] if ready_variable else ["--ready-file", str(ready)])
    child = Child(
        name,
        words,
        env={**env, ready_variable or "BENCH_READY_FILE": str(ready)},
        log=folder / f"{name}.log",
        ready=ready,
    )
    child.start()
    try:
        await until(lambda: child.exit_code is not None or child.is_ready, f"the start of {name}")
        if child.exit_code is not None:
            raise Unreachable(f"{name} ended with exit code {child.exit_code}:\n{child.last_words(12)}")
        yield child
    finally:
        child.kill()  # nothing of it is wanted any more


class Driven:
    """A peer that reads commands from stdin, a JSON object a line, and reports each result on stdout."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, **order: Any) -> dict[str, Any]:
        """Raises `Unreachable` if it ended instead; its own words stand on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        answer = await self._process.stdout.readline()
        if not answer:
            raise Unreachable(f"{self.name} ended with exit code {await self._process.wait()}")
        return dict(json.loads(answer))

    async def count(self, calls: int, in_flight: int) -> int:
        """Have so many calls made, `in_flight` at once; returns how many were answered."""
        return int((await self.run(calls=calls, in_flight=in_flight))["answered"])


@asynccontextmanager
async def driven(name: str, module: str, *, env: Mapping[str, str]) -> AsyncIterator[Driven]:
    """``python -m module`` as a `Driven`; ready when it has printed its first line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env={**os.environ, **env}, stdin=PIPE, stdout=PIPE
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        if not await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT):
            raise Unreachable(f"{name} ended with exit code {await process.wait()}")
        yield Driven(name, process)
        process.stdin.close()
        await asyncio.wait_for(process.wait(), GRACE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def orders() -> Iterator[dict[str, Any]]:
    """Each order as it comes, until stdin closes. Says first that we are ready."""
    answer(ready=True)
    for line in sys.stdin:
        yield json.loads(line)


def answer(**found: Any) -> None:
    """Answer on the real stdout, whatever `sys.stdout` was replaced by."""
    print(json.dumps(found), flush=True, file=sys.__stdout__)
