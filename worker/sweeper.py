"""The recovery path: one worker process of the fleet compares ledger and broker, and repairs what a crash left behind.

The sweeper depends on no message and on no orderly end of a process. Once a second it admits delayed and waiting calls,
and checks every call whose lease has lapsed and every job whose next check is due. Every repair is safe to repeat:
publishing a message twice costs a round trip, not a call.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Mapping, Sequence

import structlog

from tasks.calling.waiting import describe_wait
from tasks.contract.errors import PointsmanError
from tasks.contract.job import CallId
from tasks.contract.result import FINAL
from tasks.ledger import LEASE, QUEUED_LEASE, Admitted, JobSummary, Ledger, PartRecord, PartStatus
from tasks.ledger.jobs import JOIN_LEASE
from tasks.queue.app import ROUTE, model_queue, waiting_ids
from tasks.queue.publisher import Publisher
from worker.rebalancer import Rebalancer

log = structlog.get_logger(__name__)

TICK = 1.0
#: Seconds that the leader keeps the role without renewing it.
TERM = 3 * TICK + 1
#: Sweeps after Redis was away until lapsed leases count: every worker tries to renew its own once a second.
QUIET = 4
#: Seconds between two checks of an unfinished job.
NEXT_CHECK = 10.0
#: Seconds between two checks of a job that waits in the backlog: there may be a million of them.
NEXT_CHECK_WAITING = 60.0
#: Jobs that are checked together, and the number of such groups in one sweep: the next sweep checks the rest.
CHUNK = 500
MOST_CHUNKS = 10

UNFINISHED = frozenset({"waiting", "queued", "running"})


class Sweeper:
    def __init__(self, ledger: Ledger, publisher: Publisher, rebalancer: Rebalancer) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._rebalancer = rebalancer
        self._name = secrets.token_hex(6)
        #: Sweeps that leave lapsed leases alone: Redis was away, and living workers are about to renew theirs.
        self._quiet = 0

    async def sweep_forever(self) -> None:
        """Sweep once a `TICK` while this process leads."""
        while True:
            try:
                if await self._ledger.fleet.lead("sweeper", self._name, seconds=TERM):
                    await self.sweep()
                self._quiet = max(0, self._quiet - 1)
            except PointsmanError as error:
                log.warning("sweep.missed", problem=str(error))
                self._quiet = QUIET
            await asyncio.sleep(TICK)

    async def sweep(self) -> None:
        """Admit calls, rebalance stranded ones, and repair calls and jobs."""
        admitted = await self._ledger.fleet.tick()
        await self._ledger.mark_queued(admitted)
        await self._publisher.send_calls(admitted)
        await self._publisher.send_calls(await self._rebalancer.rebalance())
        if not self._quiet:
            await self._sweep_calls()
        await self._sweep_jobs()

    async def _join(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            await self._publisher.send_join(job)

    async def _finish_parts(self, parts: Sequence[str | None]) -> None:
        """Have these parts finished, whose child jobs have ended."""
        await self._publisher.send_finish_parts([CallId.parse(part) for part in parts if part is not None])

    # -- calls whose lease has lapsed --------------------------------------------------------------

    async def _sweep_calls(self) -> None:
        lapsed = await self._ledger.fleet.lapsed()
        statuses = await self._ledger.sweep.statuses([(call.job, call.index) for call, _ in lapsed])
        running: list[tuple[Admitted, str]] = []
        queued: list[Admitted] = []
        waiting: list[Admitted] = []
        ended: list[Admitted] = []
        for lease, status in zip(lapsed, statuses, strict=True):
            if status.state == "waiting":
                waiting.append(lease)
            elif status.state not in UNFINISHED or status.model != lease.model:
                ended.append(lease)  # the part is final, its job is gone, or it stands at another model by now
            elif status.state == "queued":
                queued.append(lease)
            else:
                running.append((lease, status.owner))
        # A part that waits has no lease, unless it was admitted and that process died before it marked the part.
        places = await self._ledger.fleet.find([call for call, _ in waiting])
        for lease, place in zip(waiting, places, strict=True):
            (ended if place in {"waiting", "delayed"} else queued).append(lease)
        lost = await self._requeue(running)
        lost += await self._find_lost(queued)
        again = await self._rebalancer.move_lost(lost)
        again += await self._ledger.free_all(ended)
        await self._publisher.send_calls(again)

    async def _find_lost(self, calls: Sequence[Admitted]) -> list[Admitted]:
        """Renew the leases of queued calls; returns those without a message in their queue."""
        by_model: dict[str, list[CallId]] = {}
        for call, model in calls:
            by_model.setdefault(model, []).append(call)
        missing: list[Admitted] = []
        for model, names in by_model.items():
            present = await waiting_ids(self._ledger.store, model_queue(model))
            lost = [] if present is None else [call for call in names if str(call) not in present]
            if lost:
                log.warning("sweep.messages_lost", model=model, calls=[str(call) for call in lost])
                missing += [Admitted(call, model) for call in lost]
        await self._ledger.fleet.lease(by_model, seconds=QUEUED_LEASE)
        await self._ledger.mark_queued(missing)
        return missing

    async def _requeue(self, calls: Sequence[tuple[Admitted, str]]) -> list[Admitted]:
        """Queue running calls again whose worker is dead, or fail those that killed too many; returns the former."""
        requeue = self._ledger.jobs.requeue
        words = await self._ledger.store.run(*(requeue(call.job, call.index, owner) for (call, _), owner in calls))
        again: list[Admitted] = []
        leased: dict[str, list[CallId]] = {}
        ended: list[Admitted] = []
        for (lease, owner), word in zip(calls, words, strict=True):
            call, model = lease
            if word == "ok":
                log.warning("sweep.worker_lost", call=str(call), model=model)
                leased.setdefault(model, []).append(call)
                again.append(lease)
            elif word == "poison":
                log.error("sweep.poison", call=str(call), model=model)
                record = PartRecord(error="its worker died each time that it ran")
                outcome, admitted = await self._ledger.settle(call, model, owner, output=None, record=record)
                again += admitted
                if outcome.word == "complete":
                    await self._join([call.job])
                elif outcome.word == "ended":
                    (summary,) = await self._ledger.views.summaries([call.job])
                    await self._finish_parts([summary.parent if summary is not None else None])
            elif word in {"final", "gone"}:
                ended.append(lease)
            # else another worker has claimed the part, or its owner has just started: the lease will be visible
        await self._ledger.fleet.lease(leased, seconds=QUEUED_LEASE)
        return again + await self._ledger.free_all(ended)

    # -- jobs whose check is due -------------------------------------------------------------------

    async def _sweep_jobs(self) -> None:
        waiting: frozenset[str] | None = None
        for round_ in range(MOST_CHUNKS):
            due = await self._ledger.fleet.due(CHUNK)
            if due and round_ == 0:
                waiting = await waiting_ids(self._ledger.store, ROUTE)
            await self._check_jobs(due, waiting)
            if len(due) < CHUNK:
                return

    async def _check_jobs(self, due: Sequence[str], waiting: frozenset[str] | None) -> None:
        """`waiting` are the names of the messages in the routing queue, None if there are too many to read."""
        now = await self._ledger.fleet.now()
        alive: dict[str, JobSummary] = {}
        over: list[str] = []
        summaries = await self._ledger.views.summaries(due)
        orphans = await self._orphans(dict(zip(due, summaries, strict=True)))
        for job, summary in zip(due, summaries, strict=True):
            if summary is None or summary.state in FINAL:
                over.append(job)
            elif job in orphans:
                log.warning("sweep.orphan", job=job)
                await self._ledger.cancel_child(job)
                over.append(job)
            elif summary.deadline_at is not None and summary.deadline_at <= now:
                waited = await describe_wait(self._ledger, self._rebalancer.config, job)
                why = f"the deadline passed{f'; {waited}' if waited else ''}"
                if await self._ledger.cancel(job, "expired", why) == "ok":
                    await self._finish_parts([summary.parent])
                over.append(job)
            else:
                alive[job] = summary
        await self._ledger.fleet.unwatch(over)
        pauses = await self._repair(alive, waiting)
        await self._ledger.fleet.watch(
            {job: min(pause, (alive[job].deadline_at or math.inf) - now) for job, pause in pauses.items()}
        )

    async def _orphans(self, jobs: Mapping[str, JobSummary | None]) -> set[str]:
        """The child jobs whose parent has ended: the process that ended it died before it cancelled them."""
        parents = {
            job: CallId.parse(summary.parent).job
            for job, summary in jobs.items()
            if summary is not None and summary.parent is not None and summary.state not in FINAL
        }
        states = await self._ledger.views.states(list(parents.values()))
        return {job for job, state in zip(parents, states, strict=True) if state in FINAL}

    async def _repair(self, jobs: Mapping[str, JobSummary], waiting: frozenset[str] | None) -> dict[str, float]:
        """Publish the messages that these jobs lack; returns the seconds until the next check of each."""
        pauses = dict.fromkeys(jobs, NEXT_CHECK)
        unrouted: list[tuple[str, str]] = []
        joins: list[str] = []
        singles: dict[str, JobSummary] = {}
        for job, summary in jobs.items():
            if summary.state == "joining":
                # The ledger lets another process join once the first has used up its time.
                joins.append(job)
                pauses[job] = JOIN_LEASE / 2
            elif summary.n is None:
                if _absent(job, ("route", "fanout.0"), waiting):
                    unrouted.append((job, summary.priority))
            elif summary.kind == "single":
                singles[job] = summary
            elif summary.left == 0:
                joins.append(job)
            else:
                joins += await self._repair_parts(job, summary, waiting)
        unrouted += await self._repair_singles(singles, pauses)
        await self._publisher.send_routes(unrouted)
        await self._join(joins)
        return pauses

    async def _repair_singles(self, jobs: Mapping[str, JobSummary], pauses: dict[str, float]) -> list[tuple[str, str]]:
        """Returns the jobs to route again: their call was lost between two steps, and is in no queue and no list."""
        places = await self._ledger.fleet.find([CallId(job, 0) for job in jobs])
        unrouted: list[tuple[str, str]] = []
        ran: list[CallId] = []
        for (job, summary), place in zip(jobs.items(), places, strict=True):
            if place == "waiting":
                pauses[job] = NEXT_CHECK_WAITING
            elif place == "nowhere" and summary.state == "running":
                ran.append(CallId(job, 0))
            elif place == "nowhere":
                unrouted.append((job, summary.priority))
        await self._lapse(ran)
        return unrouted

    async def _repair_parts(self, job: str, summary: JobSummary, waiting: frozenset[str] | None) -> list[str]:
        """Repair the parts of the waves that were sent; returns the job where all have ended and none is joined."""
        parts = await self._ledger.views.statuses(job, 0, summary.sent)
        unfinished = [part for part in parts if part.state in UNFINISHED]
        if not unfinished:
            # The join either finishes the job or sends its next wave.
            return [job] if _absent(job, (f"fanout.{len(summary.starts)}",), waiting) else []
        await self._repair_children(job, summary, [part for part in unfinished if part.job], waiting)
        calls = [summary.call(job, part.index) for part in unfinished if not part.job]
        places = await self._ledger.fleet.find(calls)
        await self._lapse([call for call, place in zip(calls, places, strict=True) if place == "nowhere"])
        return []

    async def _repair_children(
        self, job: str, summary: JobSummary, parts: Sequence[PartStatus], waiting: frozenset[str] | None
    ) -> None:
        """Finish parts whose child job has ended, and create child jobs that are missing."""
        states = await self._ledger.views.states([part.job for part in parts])
        calls = [summary.call(job, part.index) for part in parts]
        ended = [str(call) for call, state in zip(calls, states, strict=True) if state in FINAL]
        await self._finish_parts(ended)
        never_created = {call.wave or 0 for call, state in zip(calls, states, strict=True) if state is None}
        for wave in sorted(never_created):
            if _absent(job, (f"fanout.{wave}",), waiting):
                await self._publisher.send_fanout(job, wave=wave)

    async def _lapse(self, calls: Sequence[CallId]) -> None:
        """Give calls without a lease one that has lapsed, so that the next sweep checks them."""
        statuses = await self._ledger.sweep.statuses([(call.job, call.index) for call in calls])
        leased: dict[str, list[CallId]] = {}
        for call, status in zip(calls, statuses, strict=True):
            if status.model:
                leased.setdefault(status.model, []).append(call)
        await self._ledger.fleet.lease(leased, seconds=-1.0)


def _absent(job: str, steps: Sequence[str], waiting: frozenset[str] | None) -> bool:
    """Whether no message for these steps waits; False where the queue is too long to read."""
    return waiting is not None and not any(f"{job}.{step}" in waiting for step in steps)


#: A lease must outlive several beats and a sweep, or living workers would be taken for dead.
assert LEASE > 3 * TICK
