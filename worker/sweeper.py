"""The recovery path: one worker process of the fleet finds what got lost and sets it going again.

It needs no message to arrive and no process to end well. Once a second it brings back delayed calls, admits what has
room, and looks at every call whose lease has lapsed and every job that is due for a look. All it does is safe to
repeat: publishing a message twice costs a round trip, not a call.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import structlog

from tasks.errors import PointsmanError
from tasks.job import FINAL
from tasks.ledger import LEASE, QUEUED_LEASE, Admitted, CallId, Ledger, PartRecord
from tasks.ledger.jobs import JOIN_LEASE, Standing
from tasks.queue.app import ROUTE, model_queue
from tasks.queue.peek import waiting_ids
from tasks.queue.publish import Publisher

__all__ = ["Sweeper"]

log = structlog.get_logger(__name__)

TICK = 1.0
#: Seconds that the leader keeps the role without renewing it.
TERM = 3 * TICK + 1
#: Seconds after which an unfinished job is looked at again.
NEXT_LOOK = 10.0
#: Seconds between two looks at a job that waits in the backlog: there may be a million of them.
NEXT_LOOK_WAITING = 60.0


class Sweeper:
    def __init__(self, ledger: Ledger, publisher: Publisher) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._name = secrets.token_hex(6)

    async def sweep_forever(self) -> None:
        while True:
            try:
                if await self._ledger.fleet.lead("sweeper", self._name, seconds=TERM):
                    await self.sweep()
            except PointsmanError as error:
                log.warning("sweep.missed", problem=str(error))
            await asyncio.sleep(TICK)

    async def sweep(self) -> None:
        """One round."""
        admitted = await self._ledger.fleet.tick()
        await self._ledger.mark_queued(admitted)
        await self._publish(admitted)
        await self._sweep_calls()
        await self._sweep_jobs()

    async def _publish(self, calls: Sequence[Admitted]) -> None:
        if calls:
            await asyncio.to_thread(self._publisher.calls, calls)

    # -- calls whose lease has lapsed --------------------------------------------------------------

    async def _sweep_calls(self) -> None:
        lapsed = await self._ledger.fleet.lapsed()
        if not lapsed:
            return
        holders = await self._ledger.jobs.holders([(call.job, call.index) for call, _ in lapsed])
        queued: dict[str, list[CallId]] = {}
        again: list[Admitted] = []
        for (call, model), (state, owner) in zip(lapsed, holders, strict=True):
            if state == "running":
                again += await self._rescue(call, model, owner)
            elif state in {"queued", "waiting"}:
                queued.setdefault(model, []).append(call)
            else:  # final, or of a job that is gone
                again += await self._ledger.free(call, model)
        for model, calls in queued.items():
            present = await waiting_ids(self._ledger.store, model_queue(model))
            lost = [] if present is None else [call for call in calls if str(call) not in present]
            await self._ledger.fleet.hold({model: calls}, seconds=QUEUED_LEASE)
            if lost:
                log.warning("sweep.messages_lost", model=model, calls=[str(call) for call in lost])
                again += [Admitted(call, model) for call in lost]
        await self._publish(again)

    async def _rescue(self, call: CallId, model: str, owner: str) -> list[Admitted]:
        """A running call whose worker gives no sign: have it run again, unless it kills every worker it meets."""
        word = await self._ledger.jobs.requeue(call.job, call.index, owner)
        if word == "ok":
            log.warning("sweep.worker_lost", call=str(call), model=model)
            await self._ledger.fleet.hold({model: [call]}, seconds=QUEUED_LEASE)
            return [Admitted(call, model)]
        if word == "poison":
            log.error("sweep.poison", call=str(call), model=model)
            record = PartRecord(error="its worker died each time that it ran")
            outcome, admitted = await self._ledger.settle(call, model, owner, output=None, record=record)
            if outcome.word == "complete":
                await asyncio.to_thread(self._publisher.join, call.job)
            return admitted
        if word in {"final", "gone"}:
            return await self._ledger.free(call, model)
        return []  # it was taken over, or just started: its lease will show

    # -- jobs that are due for a look --------------------------------------------------------------

    async def _sweep_jobs(self) -> None:
        now = await self._ledger.fleet.now()
        due = await self._ledger.fleet.due(now)
        if not due:
            return
        standings = await self._ledger.jobs.standings(due)
        over = [
            job for job, standing in zip(due, standings, strict=True) if standing is None or standing.state in FINAL
        ]
        await self._ledger.fleet.unwatch(over)
        routing = None
        later: dict[str, float] = {}
        for job, standing in zip(due, standings, strict=True):
            if standing is None or standing.state in FINAL:
                continue
            deadline = standing.deadline_at_ms / 1000 if standing.deadline_at_ms is not None else None
            if deadline is not None and deadline <= now:
                await self._expire(job, standing)
                continue
            if routing is None:
                routing = await waiting_ids(self._ledger.store, ROUTE) or frozenset()
            pause = await self._look(job, standing, routing)
            later[job] = min(now + pause, deadline or now + pause)
        await self._ledger.fleet.watch(later)

    async def _expire(self, job: str, standing: Standing) -> None:
        await self._ledger.jobs.stop(job, "expired", "the deadline passed")
        await self._ledger.fleet.cancel(job, now=await self._ledger.fleet.now())
        await self._ledger.fleet.withdraw(_calls(job, standing))
        await self._ledger.fleet.unwatch([job])

    async def _look(self, job: str, standing: Standing, routing: frozenset[str]) -> float:
        """Set a job going again that stands still; returns the seconds until the next look."""
        if standing.state == "joining":
            # The ledger gives the join to another once the first had its time.
            await asyncio.to_thread(self._publisher.join, job)
            return JOIN_LEASE / 2
        if standing.n is None:
            if not any(f"{job}.{step}" in routing for step in ("route", "fanout.0")):
                priority = standing.spec.priority if standing.spec else "normal"
                await asyncio.to_thread(self._publisher.route, [(job, priority)])
            return NEXT_LOOK
        if standing.kind != "single" and standing.left == 0:
            await asyncio.to_thread(self._publisher.join, job)
            return NEXT_LOOK
        return await self._look_at_parts(job, standing)

    async def _look_at_parts(self, job: str, standing: Standing) -> float:
        """Calls that stand nowhere at all were lost between two steps: they enter the backlog anew."""
        calls = _calls(job, standing)
        states = await self._ledger.jobs.holders([(call.job, call.index) for call in calls])
        unfinished = [
            call for call, (state, _) in zip(calls, states, strict=True) if state in {"waiting", "queued", "running"}
        ]
        places = [await self._ledger.fleet.find(call) for call in unfinished]
        nowhere = [call for call, place in zip(unfinished, places, strict=True) if place == "nowhere"]
        if nowhere and standing.kind == "single":
            await asyncio.to_thread(
                self._publisher.route, [(job, standing.spec.priority if standing.spec else "normal")]
            )
        elif nowhere:
            await self._find_again(job, standing, nowhere)
        return NEXT_LOOK_WAITING if "lane" in places else NEXT_LOOK

    async def _find_again(self, job: str, standing: Standing, nowhere: Sequence[CallId]) -> None:
        """Parts of a fan-out without a lease: give them one that has lapsed, so that the next round looks at them."""
        states = await self._ledger.jobs.holders([(call.job, call.index) for call in nowhere])
        models = await self._ledger.jobs.models(job, 0, standing.n or 0)
        held: dict[str, list[CallId]] = {}
        sent_waves: set[int] = set()
        for call, (state, _) in zip(nowhere, states, strict=True):
            if state in {"queued", "running"}:
                held.setdefault(models[call.index], []).append(call)
                sent_waves.add(call.wave or 0)
        await self._ledger.fleet.hold(held, seconds=-1.0)
        waiting = {call.wave or 0 for call, (state, _) in zip(nowhere, states, strict=True) if state == "waiting"}
        if waiting and not sent_waves and standing.left <= len(nowhere):
            # All earlier waves have ended, and nobody asked for the next.
            await asyncio.to_thread(self._publisher.fanout, job, wave=min(waiting))


def _calls(job: str, standing: Standing) -> list[CallId]:
    if standing.kind == "single":
        return [CallId(job, 0)]
    return [CallId.part(job, index) for index in range(standing.n or 0)]


#: A lease must outlive several beats and a sweep, or living workers would be taken for dead.
assert LEASE > 3 * TICK
