"""Publishes the messages of all steps. They carry ids and small integers; texts stay in the ledger.

The id of a message follows from its job, step, part and wave. So a message that is published again after a loss has
the same id, and a chord counts it once. A batch of messages goes straight into the lists that workers take them from,
in one round trip over the ledger's connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celery import Celery

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import CallId, Job
from tasks.ledger.fleet import Admitted
from tasks.ledger.store import Store, Words
from tasks.queue.app import JOIN, ROUTE, model_queue
from tasks.queue.messages import Chord, MessageWriter, Task

#: By a job's priority: kombu's, where 0 goes first. Only the route queue needs them: the ledger orders the calls that
#: wait for a model.
_PRIORITY = {"high": 0, "normal": 3, "low": 6}
#: Commands in one pipeline.
MOST_COMMANDS = 200


class Publisher:
    """Publishes for one application over one store.

    Each method raises `Unreachable` where Redis does not take the messages; the sweeper has them sent later.
    """

    def __init__(self, store: Store, app: Celery) -> None:
        self._store = store
        self._writer = MessageWriter(app, db=int(store.redis.connection_pool.connection_kwargs.get("db") or 0))

    async def send_routes(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Have these jobs (id, priority) routed."""
        await self._publish(
            Task("tasks.route", _route_id(job), ROUTE, {"job_id": job}, _route_id(job), None, _PRIORITY[priority])
            for job, priority in jobs
        )

    async def send_fanout(self, job: str, *, wave: int = 0) -> None:
        """Have the parts of this wave sent."""
        # The route asks for the first wave, the join of each wave for the next.
        parent = _join_id(job, wave - 1) if wave else _route_id(job)
        kwargs = {"job_id": job, "wave": wave}
        await self._publish([Task("tasks.fanout", _fanout_id(job, wave), ROUTE, kwargs, _route_id(job), parent)])

    async def send_calls(self, admitted: Iterable[Admitted]) -> None:
        """Put calls into the queues of their models; parts of fan-outs stay parts of their chord."""
        chords: dict[tuple[str, int], Chord] = {}
        tasks: list[Task] = []
        for call, model in admitted:
            chord = None
            if call.wave is not None:
                key = (call.job, call.wave)
                chord = chords.get(key) or chords.setdefault(key, self._chord(*key))
            tasks.append(_call(call, model, chord))
        await self._publish(tasks)

    async def send_chord(
        self, job: str, wave: int, calls: Sequence[tuple[int, str]], *, size: int | None = None
    ) -> None:
        """Send one wave of a fan-out: a chord of calls (index, model), whose callback is the join.

        `size` is the number of the chord's parts where some of them are child jobs: `send_finish_parts` ends those.
        """
        chord = self._chord(job, wave)
        parts = (_call(CallId(job, index, wave), model, chord) for index, model in calls)
        # The size first: the last part may end before this returns.
        await self._run(
            self._writer.open_chord_commands(chord, len(calls) if size is None else size)
            + self._writer.publish_commands(parts)
        )

    async def send_finish_parts(self, parts: Iterable[CallId]) -> None:
        """Have these parts finished: their child jobs have ended."""
        await self._publish(
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

    async def send_join(self, job: str, *, wave: int = 0) -> None:
        """Have a job's parts joined; harmless while parts still run, and after the join."""
        await self._publish([_join(job, wave)])

    def _chord(self, job: str, wave: int) -> Chord:
        return Chord.create(f"{job}.wave.{wave}", _join(job, wave), reply_to=self._writer.reply_to)

    async def _publish(self, tasks: Iterable[Task]) -> None:
        await self._run(self._writer.publish_commands(tasks))

    async def _run(self, commands: Sequence[Words]) -> None:
        try:
            for start in range(0, len(commands), MOST_COMMANDS):
                await self._store.run(*commands[start : start + MOST_COMMANDS])
        except Unreachable:
            raise
        except PointsmanError as error:
            # For example out of memory. For the caller both are the same: the sweeper sends the messages later.
            raise Unreachable(f"the broker took no messages: {error}") from error


async def notify_parent(publisher: Publisher, job: Job) -> None:
    """Publish what waits for the end of `job`: the end of its parent's part, or the routing of the job it routes."""
    if job.parent is not None:
        await publisher.send_finish_parts([CallId.parse(job.parent.part)])
    if job.routed_job is not None:
        await publisher.send_routes([(job.routed_job, "high")])


def _call(call: CallId, model: str, chord: Chord | None) -> Task:
    route = _route_id(call.job)
    parent = route if call.wave is None else _fanout_id(call.job, call.wave)
    kwargs = {"job_id": call.job, "index": call.index} | ({} if call.wave is None else {"wave": call.wave})
    # Celery orders a chord's results by it; nothing reads those. Flower shows it, so it is the index in the job.
    place = None if chord is None else call.index
    return Task("tasks.call", str(call), model_queue(model), kwargs, route, parent, chord=chord, group_index=place)


def _join(job: str, wave: int) -> Task:
    return Task("tasks.join", _join_id(job, wave), JOIN, {"job_id": job, "wave": wave}, _route_id(job))


def _route_id(job: str) -> str:
    return f"{job}.route"


def _fanout_id(job: str, wave: int) -> str:
    return f"{job}.fanout.{wave}"


def _join_id(job: str, wave: int) -> str:
    return f"{job}.join.{wave}"
