"""One model's worker processes, brought to a total of calls in flight by adding and draining whole processes.

The threads pool can't grow or shrink while it runs. A pool that shrinks drains processes first and starts the
remainder when they have ended: for a moment it is smaller than asked, never larger.
"""

from __future__ import annotations

from typing import Protocol

from ops.processes import Child

__all__ = ["MOST_THREADS", "Pool"]

#: Threads of one process: past this they fight for the interpreter lock more than they wait for models.
MOST_THREADS = 256


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
    def threads(self) -> int:
        return sum(threads for _, threads in self._working)

    def scale(self, total: int) -> None:
        """Come closer to `total` calls in flight; call it again and again, it never waits."""
        self._draining = [child for child in self._draining if child.exit_code is None]
        while self.threads > total:
            child, _ = self._working.pop()
            child.tell()
            self._draining.append(child)
        if self._draining:
            return
        while self.threads < total:
            threads = min(total - self.threads, MOST_THREADS)
            self._started += 1
            child = self._spawn(
                f"{self.model}-{self._started}", "worker", "-Q", f"model.{self.model}", "-c", str(threads)
            )
            self._working.append((child, threads))
