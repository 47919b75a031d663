"""One model's worker processes. `scale` brings them to a total of calls in flight, by whole processes.

A pool that shrinks drains processes first, and starts the remainder after they have ended: in between it is smaller
than requested, never larger. A process keeps its number of calls over restarts.
"""

from __future__ import annotations

from collections.abc import Callable

from ops.up.processes import Child

__all__ = ["MOST_CALLS", "WorkerPool"]

#: Calls in flight of one process. A second process can use a second core.
MOST_CALLS = 2_000


class WorkerPool:
    def __init__(self, model: str, start_worker: Callable[[str, str, int], Child]) -> None:
        """`start_worker` starts a process by its name, its queues and its calls in flight."""
        self.model = model
        self._start_worker = start_worker
        self._working: list[tuple[Child, int]] = []
        self._draining: list[Child] = []
        self._started = 0

    @property
    def children(self) -> list[Child]:
        """The working processes. A draining process is not among them: it is not started again."""
        return [child for child, _ in self._working]

    @property
    def draining(self) -> list[Child]:
        return list(self._draining)

    @property
    def calls(self) -> int:
        """The calls in flight that the working processes can hold."""
        return sum(calls for _, calls in self._working)

    def scale(self, total: int) -> None:
        """Take one step towards `total` calls in flight; never waits, so it is called repeatedly."""
        self._draining = [child for child in self._draining if child.exit_code is None]
        while self.calls > total:
            child, _ = self._working.pop()
            child.send_signal()
            self._draining.append(child)
        if self._draining:
            return
        while self.calls < total:
            calls = min(total - self.calls, MOST_CALLS)
            self._started += 1
            child = self._start_worker(f"{self.model}-{self._started}", f"model.{self.model}", calls)
            self._working.append((child, calls))
