"""The way to the broker. Messages carry ids and small integers; texts stay in the ledger.

Every message has a name of its own that says what it is about: publishing it again after a loss makes the same
message, so a chord counts it once. Messages go straight into the lists that workers take them from, a whole batch in
one round trip, over the ledger's connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.ids import CallId
from tasks.ledger.fleet import Admitted
from tasks.queue.app import JOIN, ROUTE, model_queue
from tasks.queue.messages import Chord, MessageWriter, Task

if TYPE_CHECKING:
    from celery import Celery

    from tasks.contract.job import Job
    from tasks.ledger.store import Store, Words

__all__ = ["Publisher", "notify_parent"]

#: kombu's Redis transport: 0 goes first. Only the route queue needs it; the backlog orders what waits for models.
_BROKER_PRIORITY = {"high": 0, "normal": 3, "low": 6}
#: Commands in one pipeline.
MOST_COMMANDS = 200


class Publisher:
    """Publishes for one application over one store.

    Each method raises `Unreachable` where Redis does not take the messages; the sweeper has them sent later. Each has a
    twin ``commands_of_…`` that sends nothing, for who has a round trip to make anyway.
    """

    def __init__(self, store: Store, app: Celery) -> None:
        self._store = store
        self._sender = MessageWriter(app, db=int(store.redis.connection_pool.connection_kwargs.get("db") or 0))

    async def send_routes(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Have these jobs (id, priority) routed."""
        await self._run(self.commands_of_route(jobs))

    async def send_fanout(self, job: str, *, wave: int = 0) -> None:
        """Have the parts of this wave sent."""
        await self._run(self.commands_of_fanout(job, wave=wave))

    async def send_calls(self, admitted: Iterable[Admitted]) -> None:
        """Put calls into the queues of their models; parts of fan-outs stay parts of their chord."""
        await self._run(self.commands_of_calls(admitted))

    async def send_chord(
        self, job: str, wave: int, calls: Sequence[tuple[int, str]], *, size: int | None = None
    ) -> None:
        """Send one wave of a fan-out: a chord of calls (index, model), whose callback is the join.

        `size` are the chord's parts where not all of them are calls: the others are `settle`d.
        """
        await self._run(self.commands_of_chord(job, wave, calls, size=size))

    async def send_finish_parts(self, parts: Iterable[CallId]) -> None:
        """The jobs that are the work of these parts have ended: the parts do."""
        await self._run(self.commands_of_settle(parts))

    async def send_join(self, job: str, *, wave: int = 0) -> None:
        """Have a job's parts joined; harmless where they can't be yet, or were."""
        await self._run(self.commands_of_join(job, wave=wave))

    def commands_of_route(self, jobs: Iterable[tuple[str, str]]) -> list[Words]:
        return self._sender.commands(
            Task(
                "tasks.route", _route_id(job), ROUTE, {"job_id": job}, _route_id(job), None, _BROKER_PRIORITY[priority]
            )
            for job, priority in jobs
        )

    def commands_of_fanout(self, job: str, *, wave: int = 0) -> list[Words]:
        # The first wave is asked for by the route, each other by the join of the one before.
        parent = _join_id(job, wave - 1) if wave else _route_id(job)
        kwargs = {"job_id": job, "wave": wave}
        return self._sender.commands(
            [Task("tasks.fanout", _fanout_id(job, wave), ROUTE, kwargs, _route_id(job), parent)]
        )

    def commands_of_calls(self, admitted: Iterable[Admitted]) -> list[Words]:
        chords: dict[tuple[str, int], Chord] = {}
        tasks: list[Task] = []
        for call, model in admitted:
            chord = None
            if call.wave is not None:
                place = (call.job, call.wave)
                chord = chords.get(place) or chords.setdefault(place, self._chord(*place))
            tasks.append(_call(call, model, chord))
        return self._sender.commands(tasks)

    def commands_of_chord(
        self, job: str, wave: int, calls: Sequence[tuple[int, str]], *, size: int | None = None
    ) -> list[Words]:
        chord = self._chord(job, wave)
        parts = (_call(CallId(job, index, wave), model, chord) for index, model in calls)
        # The size first: the last part may end before this returns.
        return self._sender.opening(chord, len(calls) if size is None else size) + self._sender.commands(parts)

    def commands_of_settle(self, parts: Iterable[CallId]) -> list[Words]:
        return self._sender.commands(
            Task(
                "tasks.finish_part",
                str(part),
                JOIN,
                {"job_id": part.job, "index": part.index, "wave": part.wave},
                _route_id(part.job),
                _fanout_id(part.job, part.wave or 0),
                chord=self._chord(part.job, part.wave or 0),
                group_index=part.index,
            )
            for part in parts
        )

    def commands_of_join(self, job: str, *, wave: int = 0) -> list[Words]:
        return self._sender.commands([_join(job, wave)])

    def _chord(self, job: str, wave: int) -> Chord:
        return Chord.of(f"{job}.wave.{wave}", _join(job, wave), reply_to=self._sender.reply_to)

    async def _run(self, commands: Sequence[Words]) -> None:
        try:
            for start in range(0, len(commands), MOST_COMMANDS):
                await self._store.run(*commands[start : start + MOST_COMMANDS])
        except Unreachable:
            raise
        except PointsmanError as error:
            # Out of memory, say. For who publishes it is the same: the messages are not there, and will be sent later.
            raise Unreachable(f"the broker took no messages: {error}") from error


async def notify_parent(publisher: Publisher, job: Job) -> None:
    """Publish what waits for the end of `job`: the end of its parent's part, or the routing of the job it asks for."""
    if job.parent is not None:
        await publisher.send_finish_parts([CallId.parse(job.parent.part)])
    if job.routed_job is not None:
        await publisher.send_routes([(job.routed_job, "high")])


def _call(call: CallId, model: str, chord: Chord | None) -> Task:
    route = _route_id(call.job)
    if call.wave is None:
        kwargs = {"job_id": call.job, "index": call.index}
        return Task("tasks.call", str(call), model_queue(model), kwargs, route, route)
    return Task(
        "tasks.call",
        str(call),
        model_queue(model),
        {"job_id": call.job, "index": call.index, "wave": call.wave},
        route,
        _fanout_id(call.job, call.wave),
        chord=chord,
        # Celery orders the summaries by it, which nobody reads: the place in the job tells more than that in the wave.
        group_index=call.index,
    )


def _join(job: str, wave: int) -> Task:
    return Task("tasks.join", _join_id(job, wave), JOIN, {"job_id": job, "wave": wave}, _route_id(job))


def _route_id(job: str) -> str:
    return f"{job}.route"


def _fanout_id(job: str, wave: int) -> str:
    return f"{job}.fanout.{wave}"


def _join_id(job: str, wave: int) -> str:
    return f"{job}.join.{wave}"
