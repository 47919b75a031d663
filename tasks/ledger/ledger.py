"""The ledger as its users see it: jobs and fleet over one connection, and the steps that touch both in one round trip.

A script touches either a job's keys or the fleet's, never both: a crash may fall between the two halves of a step here.
Each half is safe to repeat, and the sweeper finds what stands half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.contract.ids import CallId
from tasks.contract.job import Job
from tasks.contract.result import Decision
from tasks.ledger.fleet import ADMISSION, FLEET, QUEUED_LEASE, SNAPSHOT, WAVE, Admitted, Fleet
from tasks.ledger.jobs import MOVE, FinishReply, Jobs, PartRecord
from tasks.ledger.limiter import LIMITER, Limiter
from tasks.ledger.reading import wave_of
from tasks.ledger.records import JobSummary, PartStatus, Wave
from tasks.ledger.store import Command, Store, connect
from tasks.parallel.part_spec import PartSpec
from tasks.routing.snapshot import Ranking

if TYPE_CHECKING:
    from tasks.parallel.early_stop import StopRule

__all__ = ["Ledger"]

#: Seconds after acceptance at which the sweeper looks at a job for the first time.
FIRST_LOOK = 5.0
#: Jobs that are cancelled at the same time: their commands share round trips.
TOGETHER = 100
#: Waits for a job at one time, in one process.
MOST_LISTENING = 10_000


class Ledger:
    def __init__(self, url: str, models: Sequence[str], *, connections: int = 64) -> None:
        """`url` as redis-py takes it; `models` are all models of the configuration."""
        self._redis = connect(url, connections=connections)
        # Whoever waits for a job keeps a connection all the time: these must not take those of the commands.
        self._listening = connect(url, connections=MOST_LISTENING)
        self.store = Store(self._redis, (MOVE, ADMISSION, FLEET, LIMITER, SNAPSHOT))
        self.jobs = Jobs(self.store, self._listening)
        self.fleet = Fleet(self.store, models)
        self.limiter = Limiter(self.store)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._listening.aclose()

    async def accept(self, jobs: Sequence[Job], *, keep_seconds: int) -> list[str]:
        """Write jobs: ``accepted``, ``exists`` (it was written before), or ``taken`` (its id is another job's).

        The sweeper's note goes first: a job that was written is always looked at again.
        """
        looks = {job.id: min(FIRST_LOOK, job.deadline or FIRST_LOOK) for job in jobs}
        accepting = [self.jobs.accepting(job, keep_seconds=keep_seconds) for job in jobs]
        dates = {job.id: job.deadline for job in jobs if job.deadline is not None}
        notes = [self.fleet.watch(looks), *([self.fleet.set_deadlines(dates)] if dates else [])]
        replies = await self.store.run(*notes, *accepting)
        return [str(reply[0]) for reply in replies[len(notes) :]]

    async def place(self, job: Job, decision: Decision, ranking: Ranking) -> list[Admitted]:
        """Route a single job: write the decision down, put its call into the backlog, admit whom there is room for."""
        call = CallId(job.id, 0)
        waits_for = ranking.preferences[0].model if ranking.bound and ranking.balance is None else ""
        admitted: list[Admitted]
        routed, admitted = await self.store.run(
            # First: whoever admits the call finds the job ready for it.
            self.jobs.routing(job.id, decision, placed="waiting", model=waits_for),
            self.fleet.admit(call, ranking, priority=job.priority),
        )
        if routed[0] != "routed":  # it was cancelled meanwhile
            await self.fleet.withdraw([call])
            admitted = [place for place in admitted if place.call != call]
        await self.mark_queued(admitted)
        return admitted

    async def plan(
        self,
        job: str,
        decision_json: str,
        parts: Sequence[PartSpec],
        *,
        first: int = 0,
        role: str = "",
        wave: int = WAVE,
        stopping: StopRule | None = None,
        whole: bool = False,
    ) -> tuple[str, Wave | None]:
        """Write the parts of a stage and take the leases of its first wave, of which at most `wave` parts are.

        `whole`: the parts hold all of the job's input. The word is ``ok``, ``planned`` (they were before), ``over`` or
        ``gone``.
        """
        *_, reply = await self.store.run(
            *self.jobs.planning(
                job, decision_json, parts, wave=min(wave, WAVE), first=first, role=role, stopping=stopping, whole=whole
            )
        )
        sent = wave_of(reply)
        if sent is not None:
            await self.fleet.lease(_held(job, sent, parts), seconds=QUEUED_LEASE)
        return str(reply[0]), sent

    async def send_wave(self, job: str, number: int, *, size: int = WAVE) -> tuple[Wave, list[PartStatus]] | None:
        """Send a later wave; None if it was sent before: the sweeper publishes what is missing."""
        wave = await self.jobs.send(job, number, size=min(size, WAVE))
        if wave is None:
            return None
        sent = await self.jobs.statuses(job, wave.first, wave.count)
        await self.fleet.lease(_held_calls(job, wave.number, sent), seconds=QUEUED_LEASE)
        return wave, sent

    async def cancel(self, job: str, state: str, why: str) -> str:
        """End a job and the jobs that are its parts' work, and stop their calls: ``ok``, ``final`` or ``gone``."""
        word = await self.jobs.stop(job, state, why)
        if word == "ok":
            # Asked when it has ended: until then its parts may have been planned.
            (summary,) = await self.jobs.summaries([job])
            await self.drop_calls(job, summary)
        return word

    async def drop_calls(self, job: str, summary: JobSummary | None) -> None:
        """Nobody wants a job's calls any more, nor those of the jobs that are its parts' work."""
        await self.fleet.cancel(job)
        if summary is not None:
            await self.fleet.withdraw(summary.calls(job))
            children = await self.jobs.children(job) if summary.has_children else []
            for at in range(0, len(children), TOGETHER):
                await asyncio.gather(*(self.cancel_child(child) for child in children[at : at + TOGETHER]))

    async def cancel_child(self, job: str) -> None:
        """End a job that is the work of a part, because the job that it is a part of has ended: that tells its cost."""
        if await self.cancel(job, "cancelled", "the job that it was a part of has ended") != "ok":
            return
        (summary,) = await self.jobs.summaries([job])
        result = await self.jobs.result(job, outputs=False)
        if summary is None or summary.parent is None or result is None or not result.cost_usd:
            return
        part = CallId.parse(summary.parent)
        record = PartRecord(usage=result.usage, cost_usd=result.cost_usd, error="its job was cancelled")
        await self.store.run(self.jobs.finishing(part.job, part.index, job, output=None, record=record))

    async def settle(
        self,
        call: CallId,
        model: str,
        owner: str,
        *,
        output: str | None,
        record: PartRecord,
        ballot: str = "",
        weight: float = 1.0,
        reports: Sequence[Command[str]] = (),
    ) -> tuple[FinishReply, list[Admitted]]:
        """Write a part's end, free its place, and admit the next: whose messages shall be published.

        `reports` are those of its attempts (`Limiter.release`): they release what the attempts acquired.
        """
        finished, *_, admitted = await self.store.run(
            self.jobs.finishing(
                call.job, call.index, owner, output=output, record=record, ballot=ballot, weight=weight
            ),
            *reports,
            self.fleet.release(call, model),
        )
        await self.mark_queued(admitted)
        return FinishReply(finished[0], finished[1] if len(finished) > 1 else ""), admitted

    async def free(self, call: CallId, model: str) -> list[Admitted]:
        """A call ended without an outcome of its own: free its place and admit the next."""
        return await self.free_all([Admitted(call, model)])

    async def free_all(self, ended: Sequence[Admitted]) -> list[Admitted]:
        """The same for several calls."""
        if not ended:
            return []
        replies = await self.store.run(*(self.fleet.release(call, model) for call, model in ended))
        admitted = [each for reply in replies for each in reply]
        await self.mark_queued(admitted)
        return admitted

    async def delay(
        self, call: CallId, model: str, ranking: Ranking, *, priority: str, seconds: float
    ) -> list[Admitted]:
        """A call gives up its place and waits anew after `seconds`, see `Fleet.delay`; the next is admitted."""
        admitted = await self.fleet.delay(call, model, ranking, priority=priority, seconds=seconds)
        await self.mark_queued(admitted)
        return admitted

    async def mark_queued(self, admitted: Sequence[Admitted]) -> None:
        """Tell the jobs of these calls where they stand now; a call learns its model from there."""
        await self.jobs.queue([(call.job, call.index, model) for call, model in admitted])


def _held(job: str, wave: Wave, parts: Sequence[PartSpec]) -> dict[str, list[CallId]]:
    sent = [
        PartStatus(index, "failed" if part.error else "running" if part.job else "queued", part.model, part.job)
        for index, part in enumerate(parts[: wave.count], start=wave.first)
    ]
    return _held_calls(job, wave.number, sent)


def _held_calls(job: str, wave: int, sent: Sequence[PartStatus]) -> dict[str, list[CallId]]:
    """The calls of a wave, by model; jobs have none."""
    calls: dict[str, list[CallId]] = {}
    for part in sent:
        if part.state == "queued":
            calls.setdefault(part.model, []).append(CallId(job, part.index, wave))
    return calls
