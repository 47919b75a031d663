"""A publisher without a broker: it records the messages that the real one sends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.contract.job import CallId
from tasks.ledger.fleet import Admitted
from tasks.queue.publisher import Publisher

__all__ = ["RecordingPublisher"]


class RecordingPublisher(Publisher):
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.routed: list[str] = []
        self.fanned_out: list[tuple[str, int]] = []
        self.called: list[tuple[CallId, str]] = []
        #: By job and wave: the number of parts.
        self.chords: dict[tuple[str, int], int] = {}
        self.joined: list[tuple[str, int]] = []
        self.finished_parts: list[str] = []

    @property
    def joined_jobs(self) -> list[str]:
        return [job for job, _ in self.joined]

    async def send_routes(self, jobs: Iterable[tuple[str, str]]) -> None:
        self.routed += [job for job, _ in jobs]

    async def send_fanout(self, job: str, *, wave: int = 0) -> None:
        self.fanned_out.append((job, wave))

    async def send_calls(self, admitted: Iterable[Admitted]) -> None:
        self.called += list(admitted)

    async def send_chord(
        self, job: str, wave: int, calls: Sequence[tuple[int, str]], *, size: int | None = None
    ) -> None:
        self.chords[job, wave] = len(calls) if size is None else size
        self.called += [(CallId(job, index, wave), model) for index, model in calls]

    async def send_join(self, job: str, *, wave: int = 0) -> None:
        self.joined.append((job, wave))

    async def send_finish_parts(self, parts: Iterable[CallId]) -> None:
        self.finished_parts += [str(part) for part in parts]
