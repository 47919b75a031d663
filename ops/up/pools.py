"""One model's worker processes, brought to a total of calls in flight by adding and draining whole processes.

A pool that shrinks drains processes first and starts the remainder when they have ended: for a moment it is smaller
than asked, never larger. What a process started with is what it has after a restart, too, so nobody need remember it.
"""

from __future__ import annotations

from typing import Protocol

from ops.up.processes import Child

__all__ = ["MOST_CALLS", "Pool"]

#: Calls in flight of one process: past this a second one uses a second core.
MOST_CALLS = 2_000


class _Spawn(Protocol):
    def __call__(self, name: str, *words: str) -> Child: ...


class Pool:
    def __init__(self, model: str, spawn: _Spawn) -> None:
        """`spawn` starts a Celery process from its name and its words after ``celery -A worker``."""
        self.model = model
        self._spawn = spawn
        self._working: list[tuple[Child, int]] = []
        self._draining: list[Child] = []
        self._started = 0

    @property
    def children(self) -> list[Child]:
        """The processes that shall run; those that drain are not started again."""
        return [child for child, _ in self._working]

    @property
    def draining(self) -> list[Child]:
        return list(self._draining)

    @property
    def calls(self) -> int:
        """How many may be in flight in the processes that run."""
        return sum(calls for _, calls in self._working)

    def scale(self, total: int) -> None:
        """Come closer to `total` calls in flight; call it again and again, it never waits."""
        self._draining = [child for child in self._draining if child.exit_code is None]
        while self.calls > total:
            child, _ = self._working.pop()
            child.tell()
            self._draining.append(child)
        if self._draining:
            return
        while self.calls < total:
            calls = min(total - self.calls, MOST_CALLS)
            self._started += 1
            child = self._spawn(
                f"{self.model}-{self._started}", "worker", "-Q", f"model.{self.model}", "-c", str(calls)
            )
            self._working.append((child, calls))
