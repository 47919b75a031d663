"""The ledger as its users see it: jobs and fleet over one connection, and operations on both in one round trip.

A script touches either a job's keys or the fleet's, never both: a crash may fall between the halves of an operation.
Each half is safe to repeat, and the sweeper repairs what is half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tasks.contract.job import CallId, Job
from tasks.contract.result import Decision
from tasks.ledger.fleet import ADMISSION, FLEET, QUEUED_LEASE, SNAPSHOT, WAVE, Admitted, Fleet
from tasks.ledger.jobs import MOST_WRITTEN, MOVE, Jobs
from tasks.ledger.limiter import LIMITER, Limiter
from tasks.ledger.records import FinishReply, JobSummary, PartRecord, PartStatus, StagePlan
from tasks.ledger.store import Command, Store, connect
from tasks.ledger.sweeper_reads import SweeperReads
from tasks.ledger.views import JobViews
from tasks.routing.snapshot import Ranking

#: Seconds from acceptance to the sweeper's first check of a job.
FIRST_CHECK = 5.0
#: Jobs that are cancelled at the same time: their commands share round trips.
TOGETHER = 100
#: Clients in one process that wait for jobs at the same time.
MOST_LISTENING = 10_000


class Ledger:
    def __init__(self, url: str, models: Sequence[str], *, connections: int = 64) -> None:
        """`url` as redis-py takes it; `models` are all models of the configuration."""
        self._redis = connect(url, connections=connections)
        # A client that waits for a job keeps a connection: commands have connections of their own.
        self._listening = connect(url, connections=MOST_LISTENING)
        self.store = Store(self._redis, (MOVE, ADMISSION, FLEET, LIMITER, SNAPSHOT))
        self.jobs = Jobs(self.store)
        self.views = JobViews(self.store, self._listening)
        self.sweep = SweeperReads(self.store)
        self.fleet = Fleet(self.store, models)
        self.limiter = Limiter(self.store)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._listening.aclose()

    async def accept(self, jobs: Sequence[Job], *, keep_seconds: int) -> list[str]:
        """Write jobs: ``accepted``, ``exists`` (it was written before), or ``taken`` (its id is another job's).

        The sweeper's note goes first: every job that was written is checked.
        """
        checks = {job.id: min(FIRST_CHECK, job.deadline or FIRST_CHECK) for job in jobs}
        accepts = [self.jobs.accept(job, keep_seconds=keep_seconds) for job in jobs]
        dates = {job.id: job.deadline for job in jobs if job.deadline is not None}
        notes = [self.fleet.watch(checks), *([self.fleet.set_deadlines(dates)] if dates else [])]
        return list((await self.store.run(*notes, *accepts))[len(notes) :])

    async def place(self, job: Job, decision: Decision, ranking: Ranking) -> list[Admitted]:
        """Route a single job: write the decision, put its call into the backlog, and admit the calls that have room."""
        call = CallId(job.id, 0)
        waits_for = ranking.preferences[0].model if ranking.bound and ranking.balance is None else ""
        admitted: list[Admitted]
        routed, admitted = await self.store.run(
            # First: a call that is admitted finds its job ready.
            self.jobs.route(job.id, decision, placed="waiting", model=waits_for),
            self.fleet.admit(call, ranking, priority=job.priority),
        )
        if routed != "routed":  # the job was cancelled meanwhile
            await self.fleet.withdraw([call])
            admitted = [place for place in admitted if place.call != call]
        await self.mark_queued(admitted)
        return admitted

    async def plan(self, job: str, decision_json: str, stage: StagePlan) -> tuple[str, int | None, list[PartStatus]]:
        """Write the parts of a stage, send its first wave, and take the leases of that wave's calls.

        ``ok`` with the wave's number and its parts, or ``planned`` (it was before), ``over`` or ``gone``.
        """
        *_, (word, sent) = await self.store.run(*self.jobs.plan(job, decision_json, stage))
        if sent is None:
            return word, None, []
        wave, indices = sent
        if len(stage.parts) > MOST_WRITTEN:
            # Written in several steps, between which another may have written its own: the record is what counts.
            parts = await self.views.statuses(job, indices.start, len(indices))
        else:
            parts = stage.first_wave(len(indices))
        await self._lease(job, wave, parts)
        return word, wave, parts

    async def send_wave(self, job: str, number: int, *, size: int = WAVE) -> tuple[int, list[PartStatus]] | None:
        """Send a later wave; None if it was sent before: the sweeper publishes what is missing."""
        sent = await self.jobs.send(job, number, size=min(size, WAVE))
        if sent is None:
            return None
        wave, indices = sent
        parts = await self.views.statuses(job, indices.start, len(indices))
        await self._lease(job, wave, parts)
        return wave, parts

    async def _lease(self, job: str, wave: int, parts: Sequence[PartStatus]) -> None:
        """Take the leases of a wave's calls; child jobs have none."""
        calls: dict[str, list[CallId]] = {}
        for part in parts:
            if part.state == "queued":
                calls.setdefault(part.model, []).append(CallId(job, part.index, wave))
        await self.fleet.lease(calls, seconds=QUEUED_LEASE)

    async def cancel(self, job: str, state: str, why: str) -> str:
        """End a job and its child jobs, and stop their calls: ``ok``, ``final`` or ``gone``."""
        word = await self.jobs.stop(job, state, why)
        if word == "ok":
            # Read when the job has ended: until then its parts may have been planned.
            (summary,) = await self.views.summaries([job])
            await self.drop_calls(job, summary)
        return word

    async def drop_calls(self, job: str, summary: JobSummary | None) -> None:
        """Drop the calls of a job that has ended, and cancel its child jobs."""
        await self.fleet.cancel(job)
        if summary is not None:
            await self.fleet.withdraw(summary.calls(job))
            children = await self.views.children(job) if summary.has_children else []
            for at in range(0, len(children), TOGETHER):
                await asyncio.gather(*(self.cancel_child(child) for child in children[at : at + TOGETHER]))

    async def cancel_child(self, job: str) -> None:
        """End a child job whose parent has ended, and add its cost to the parent's part."""
        if await self.cancel(job, "cancelled", "the job that it was a part of has ended") != "ok":
            return
        (summary,) = await self.views.summaries([job])
        result = await self.views.result(job, outputs=False)
        if summary is None or summary.parent is None or result is None or not result.cost_usd:
            return
        part = CallId.parse(summary.parent)
        record = PartRecord(usage=result.usage, cost_usd=result.cost_usd, error="its job was cancelled")
        await self.jobs.finish(part.job, part.index, job, output=None, record=record)

    async def settle(
        self,
        call: CallId,
        model: str,
        owner: str,
        *,
        output: str | None,
        record: PartRecord,
        reports: Sequence[Command[str]] = (),
    ) -> tuple[FinishReply, list[Admitted]]:
        """Write a part's end, release its slot, and admit the next calls, whose messages are to be published.

        `reports` are those of its attempts (`Limiter.release`): they release what the attempts acquired.
        """
        finished, *_, admitted = await self.store.run(
            self.jobs.finish(call.job, call.index, owner, output=output, record=record),
            *reports,
            self.fleet.release(call, model),
        )
        await self.mark_queued(admitted)
        return finished, admitted

    async def free(self, call: CallId, model: str) -> list[Admitted]:
        """Release the slot of a call that ended without writing an outcome, and admit the next calls."""
        return await self.free_all([Admitted(call, model)])

    async def free_all(self, ended: Sequence[Admitted]) -> list[Admitted]:
        """Release the slots of several calls."""
        if not ended:
            return []
        replies = await self.store.run(*(self.fleet.release(call, model) for call, model in ended))
        admitted = [each for reply in replies for each in reply]
        await self.mark_queued(admitted)
        return admitted

    async def delay(
        self, call: CallId, model: str, ranking: Ranking, *, priority: str, seconds: float
    ) -> list[Admitted]:
        """Release the slot of a call, which waits again after `seconds` (`Fleet.delay`), and admit the next calls."""
        admitted = await self.fleet.delay(call, model, ranking, priority=priority, seconds=seconds)
        await self.mark_queued(admitted)
        return admitted

    async def mark_queued(self, admitted: Sequence[Admitted]) -> None:
        """Write into the jobs of these calls where they stand now: a claim takes its model from there."""
        by_job: dict[str, list[tuple[int, str]]] = {}
        for call, model in admitted:
            by_job.setdefault(call.job, []).append((call.index, model))
        await self.store.run(*(self.jobs.queue(job, calls) for job, calls in by_job.items()))
