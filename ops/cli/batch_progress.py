"""What is shown of a batch while it is waited for."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

__all__ = ["BatchProgress"]


class BatchProgress:
    """One bar on stderr, on a terminal only."""

    def __init__(self, batch_id: str, jobs: int) -> None:
        self._batch = batch_id
        self._jobs = jobs

    def __enter__(self) -> Self:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(self._batch, total=self._jobs)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, ended: int, jobs: int | None = None) -> None:
        """`jobs` where their number has changed."""
        self._bar.update(self._task, completed=ended, total=jobs)
