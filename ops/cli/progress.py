"""Progress bars on stderr, for the time that a command waits for a job or a batch."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ops.cli.render import note, printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from tasks.contract.result import Part, Result

__all__ = ["BatchProgress", "JobProgress"]

#: Parts with a bar of their own: the running ones. The total counts the others.
MOST_ROWS = 8

_ENDED = {"succeeded", "failed", "skipped", "cancelled"}


class JobProgress:
    """On a terminal, bars for a job and its running parts, which vanish at the end; elsewhere one line."""

    def __init__(self, job_id: str) -> None:
        self._job = job_id
        self._rows: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        from rich import progress
        from rich.console import Console

        self._on_terminal = sys.stderr.isatty()
        if not self._on_terminal:
            note(f"job {self._job}")
            return self
        self._bars = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.fields[figure]}", markup=False),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=5,
        )
        self._total = self._bars.add_task(f"{self._job} accepted", total=None, figure="")
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_terminal:
            self._bars.stop()

    def show(self, result: Result) -> None:
        if not self._on_terminal:
            return
        ended = sum(part.state in _ENDED for part in result.parts)
        many = result.parts_total > 1
        self._bars.update(
            self._total,
            description=f"{result.id} {result.state}",
            total=result.parts_total if many else None,
            completed=ended if many else 0,
            figure=f"{ended}/{result.parts_total} parts" if many else _describe(*result.parts[:1]),
        )
        if many:
            self._show_parts(shown_parts(result))

    def _show_parts(self, parts: list[Part]) -> None:
        for index in self._rows.keys() - {part.index for part in parts}:
            self._bars.remove_task(self._rows.pop(index))
        for part in parts:
            if part.index not in self._rows:
                self._rows[part.index] = self._bars.add_task(_title(part), total=None, figure="")
            done = part.state in _ENDED
            self._bars.update(
                self._rows[part.index], total=1 if done else None, completed=int(done), figure=_describe(part)
            )


class BatchProgress:
    """On a terminal, one bar for the jobs of a batch; elsewhere nothing."""

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
        """Show how many jobs have ended; `jobs` changes the total."""
        self._bar.update(self._task, completed=ended, total=jobs)


def shown_parts(result: Result) -> list[Part]:
    """Return all parts if they are few, else the first running ones."""
    if result.parts_total <= MOST_ROWS:
        return list(result.parts)
    return [part for part in result.parts if part.state == "running"][:MOST_ROWS]


def _title(part: Part) -> str:
    title = printable(part.title).replace("\n", " ")
    return f"  {part.index + 1}. {title[:30]}" if title else f"  part {part.index + 1}"


def _describe(part: Part | None = None) -> str:
    if part is None:
        return ""
    words: list[str] = [part.state]
    if part.model:
        words.append(part.model)
    if part.attempts > 1:
        words.append(f"attempt {part.attempts}")
    return " · ".join(words)
