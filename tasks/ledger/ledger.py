"""The ledger as its users see it: jobs and fleet over one connection, and the steps that touch both in one round trip.

A script touches either a job's keys or the fleet's, never both: a crash may fall between the two halves of a step here.
Each half is safe to repeat, and the sweeper finds what stands half done.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.job import Decision, Job
from tasks.ledger.fleet import FLEET, QUEUED_LEASE, WAVE, Admitted, CallId, Fleet, admitted_of
from tasks.ledger.jobs import MOVE, Jobs, Outcome, PartPlan, PartRecord
from tasks.ledger.limits import LIMITS, Limits
from tasks.ledger.store import Command, Store, connect
from tasks.routing.snapshot import Ranking

__all__ = ["Ledger"]

#: Seconds after acceptance at which the sweeper looks at a job for the first time.
FIRST_LOOK = 5.0
#: Waits for a job at one time, in one process.
MOST_LISTENING = 10_000


class Ledger:
    def __init__(self, url: str, models: Sequence[str], *, connections: int = 64) -> None:
        """`url` as redis-py takes it; `models` are all models of the configuration."""
        self._redis = connect(url, connections=connections)
        # Whoever waits for a job keeps a connection all the time: these must not take those of the commands.
        self._listening = connect(url, connections=MOST_LISTENING)
        self.store = Store(self._redis, (MOVE, FLEET, LIMITS))
        self.jobs = Jobs(self.store, self._listening)
        self.fleet = Fleet(self.store, models)
        self.limits = Limits(self.store)

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
        notes = [self.fleet.watching(looks), *([self.fleet.dating(dates)] if dates else [])]
        replies = await self.store.run(*notes, *accepting)
        return [str(reply[0]) for reply in replies[len(notes) :]]

    async def place(self, job: Job, decision: Decision, ranking: Ranking) -> list[Admitted]:
        """Route a single job: write the decision down, put its call into the backlog, admit whom there is room for."""
        call = CallId(job.id, 0)
        waits_for = ranking.preferences[0].model if ranking.bound and ranking.balance is None else ""
        routed, reply = await self.store.run(
            # First: whoever admits the call finds the job ready for it.
            self.jobs.routing(job.id, decision, placed="waiting", model=waits_for),
            self.fleet.admitting(
                call,
                ranking.preferences,
                bound=ranking.bound,
                priority=job.priority,
                balance=ranking.balance,
                spare=ranking.spare,
            ),
        )
        admitted = admitted_of(reply)
        if routed[0] != "routed":  # it was cancelled meanwhile
            await self.fleet.withdraw([call])
            admitted = [place for place in admitted if place.call != call]
        await self.mark_queued(admitted)
        return admitted

    async def plan(self, job: str, decision_json: str, parts: Sequence[PartPlan]) -> str:
        """Write the parts of a fan-out and take the leases of its first wave: ``ok``, ``planned`` or ``over``."""
        holding = self.fleet.holding(
            _by_model(job, [part.model for part in parts[:WAVE]], first=0), seconds=QUEUED_LEASE
        )
        reply, *_ = await self.store.run(self.jobs.planning(job, decision_json, parts, wave=WAVE), *holding)
        return str(reply[0])

    async def send_wave(self, job: str, wave: int) -> list[str]:
        """The models of the parts of a later wave, which are now queued; none if it was sent before."""
        first = wave * WAVE
        states = await self.jobs.part_states(job, first, first + WAVE)
        if any(state != "waiting" for state in states):
            return []  # the sweeper publishes what is missing
        models = await self.jobs.models(job, first, first + len(states))
        if await self.jobs.queue([(job, first + place, model) for place, model in enumerate(models)]) != ["ok"]:
            return []  # the job has ended
        await self.fleet.hold(_by_model(job, models, first=first), seconds=QUEUED_LEASE)
        return models

    async def settle(
        self,
        call: CallId,
        model: str,
        owner: str,
        *,
        output: str | None,
        record: PartRecord,
        ballot: str = "",
        reports: Sequence[Command] = (),
    ) -> tuple[Outcome, list[Admitted]]:
        """Write a part's end, free its place, and admit the next: whose messages shall be published.

        `reports` are those of its attempts (`Limits.reporting`): they free what the attempts took.
        """
        finished, *_, freed = await self.store.run(
            self.jobs.finishing(call.job, call.index, owner, output=output, record=record, ballot=ballot),
            *reports,
            self.fleet.releasing(call, model),
        )
        admitted = admitted_of(freed)
        await self.mark_queued(admitted)
        return Outcome(finished[0], finished[1] if len(finished) > 1 else ""), admitted

    async def free(self, call: CallId, model: str) -> list[Admitted]:
        """A call ended without an outcome of its own: free its place and admit the next."""
        return await self.free_all([Admitted(call, model)])

    async def free_all(self, ended: Sequence[Admitted]) -> list[Admitted]:
        """The same for several calls."""
        if not ended:
            return []
        replies = await self.store.run(*(self.fleet.releasing(call, model) for call, model in ended))
        admitted = [place for reply in replies for place in admitted_of(reply)]
        await self.mark_queued(admitted)
        return admitted

    async def delay(
        self, call: CallId, model: str, ranking: Ranking, *, priority: str, seconds: float
    ) -> list[Admitted]:
        """A call gives up its place and waits anew after `seconds`, see `Fleet.delay`; the next is admitted."""
        admitted = await self.fleet.delay(
            call,
            model,
            ranking.preferences,
            bound=ranking.bound,
            priority=priority,
            seconds=seconds,
            spare=ranking.spare,
        )
        await self.mark_queued(admitted)
        return admitted

    async def mark_queued(self, admitted: Sequence[Admitted]) -> None:
        """Tell the jobs of these calls where they stand now; a call learns its model from there."""
        await self.jobs.queue([(call.job, call.index, model) for call, model in admitted])


def _by_model(job: str, models: Sequence[str], *, first: int) -> dict[str, list[CallId]]:
    calls: dict[str, list[CallId]] = {}
    for index, model in enumerate(models, start=first):
        calls.setdefault(model, []).append(CallId.part(job, index))
    return calls
