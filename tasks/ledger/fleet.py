"""The fleet's live state: calls that wait or are in flight, their admission to models, and the workers of these.

Its scripts are `admission.lua`, `fleet.lua` and `snapshot.lua`. What runs is a lease that lapses when its worker dies;
nothing is a counter that could drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tasks.contract.job import PRIORITIES, CallId
from tasks.ledger.store import Command, Commands, Script, Store
from tasks.routing.snapshot import INFINITE, ModelLoad, Ranking, Snapshot

ADMISSION = Script("admission.lua", "model_state.lua")
FLEET = Script("fleet.lua")
SNAPSHOT = Script("snapshot.lua", "model_state.lua")

#: Seconds that a running call is its worker's without a heartbeat. A dead worker's calls run again after this.
LEASE = 6.0
#: Seconds after which the sweeper looks whether a queued call's message is still there.
QUEUED_LEASE = 10.0
#: Calls that one script gets at most: it bounds how long the server works on it.
MOST_NAMED = 1000
#: Parts of a fan-out that are sent at once.
WAVE = 1000

#: Seconds that a cancelled job is shown to workers: many heartbeats, and few ids to read at each.
CANCEL_KEPT = 30.0

T = TypeVar("T")

_PREFIX = "pm:{fleet}:"


class Admitted(NamedTuple):
    """A call that now has its slot in a model's queue: its message must be published."""

    call: CallId
    model: str


class Fleet:
    """Each method is one round trip and may raise `Unreachable`. `models` are the names of the configuration."""

    def __init__(self, store: Store, models: Sequence[str]) -> None:
        self._store = store
        self._models = tuple(models)

    # -- capacity --------------------------------------------------------------------------------

    async def configure(self, capacities: Mapping[str, int]) -> None:
        """Set the capacities of the configuration."""
        key = f"{_PREFIX}configured"
        _, known = await self._store.run(("HSET", key, *_flat(capacities.items())), ("HKEYS", key))
        gone = [model for model in known if model not in capacities]
        if gone:
            # No worker serves their queues any more: what was admitted there would wait for ever.
            await self._store.run(("HDEL", key, *gone))

    def scale(self, model: str, capacity: int | None) -> Command[None]:
        """Set a model's capacity, whatever the configuration says; None goes back to the configuration."""
        key = f"{_PREFIX}scaled"
        words = ("HDEL", key, model) if capacity is None else ("HSET", key, model, capacity)
        return Command(self._store, words, _read_nothing)

    def drain(self, model: str, *, on: bool, move: bool = False) -> Command[None]:
        """Have `model` take no new calls, or take that back.

        What stands in its queue is worked off there; with `move` it goes to other candidates where there are some.
        """
        key = f"{_PREFIX}drained"
        words = ("HSET", key, model, "move" if move else 1) if on else ("HDEL", key, model)
        return Command(self._store, words, _read_nothing)

    def drained(self) -> Command[dict[str, bool]]:
        """The models that are drained, and whether what is queued there shall move."""
        return Command(
            self._store,
            ("HGETALL", f"{_PREFIX}drained"),
            lambda marks: {model: mark == "move" for model, mark in marks.items()},
        )

    def snapshot(self, models: Sequence[str] | None = None, *, turn: str = "") -> Command[Snapshot]:
        """The load of each model (by default all), and a number that counts up for each key `turn` (0 without)."""
        names = self._models if models is None else tuple(models)

        def read(reply: Sequence[Any]) -> Snapshot:
            number, *rows = reply
            return Snapshot(int(number), dict(zip(names, map(_read_load, rows), strict=True)))

        return self._store.step(SNAPSHOT, (), "snapshot", read, turn=turn, rest=names)

    # -- presence --------------------------------------------------------------------------------

    def serve(self, process: str, models: Collection[str], left: Collection[str] = ()) -> Command[None]:
        """Report that a worker process serves these models, and no longer those it `left`.

        A model that was served, and that no worker has reported for ten seconds, is dead: no call is sent there.
        """
        return self._note("serve", process=process, count=len(models), rest=[*models, *left])

    def serving(self) -> Command[dict[str, int]]:
        """How many worker processes serve each model; a model without any is left out."""
        return self._store.step(
            FLEET, (), "serving", lambda marks: dict(Counter(mark.partition("|")[2] for mark in marks))
        )

    # -- admission -------------------------------------------------------------------------------

    def admit(self, call: CallId, ranking: Ranking, *, priority: str) -> Command[list[Admitted]]:
        """Put a call into the backlog and admit the calls for which there is room: perhaps this one, perhaps others."""
        return self._admit(
            "admit",
            call=str(call),
            candidates=ranking.candidate_count,
            balance=ranking.balance,
            leveled=len(ranking.preferences) - ranking.fallbacks,
            priority=PRIORITIES[priority],
            models=len(self._models),
            rest=[*self._models, *_flat(ranking.preferences)],
        )

    def release(self, call: CallId, model: str) -> Command[list[Admitted]]:
        """Release the slot of a call that has ended, and admit the next."""
        return self._admit("release", call=str(call), model=model)

    def delay(
        self, call: CallId, model: str, ranking: Ranking, *, priority: str, seconds: float
    ) -> Command[list[Admitted]]:
        """Release a call's slot at `model`, have it wait again after `seconds`, and admit the next."""
        return self._admit_again("delay", call, model, ranking, priority, delay_ms=_ms(seconds))

    def move(
        self, call: CallId, model: str, ranking: Ranking, *, priority: str, waited_s: float
    ) -> Command[list[Admitted]]:
        """Have a call leave `model`, or its waiting list, and wait as if it had come `waited_s` ago; admit the next."""
        return self._admit_again("move", call, model, ranking, priority, age_ms=_ms(waited_s))

    def tick(self) -> Command[list[Admitted]]:
        """Bring back the delayed calls that are due, and admit."""
        return self._admit("tick")

    def _admit_again(
        self, step: str, call: CallId, model: str, ranking: Ranking, priority: str, **time_ms: int
    ) -> Command[list[Admitted]]:
        return self._admit(
            step,
            call=str(call),
            model=model,
            candidates=ranking.candidate_count,
            priority=PRIORITIES[priority],
            rest=_flat(ranking.preferences),
            **time_ms,
        )

    def _admit(self, step: str, **arguments: Any) -> Command[list[Admitted]]:
        """A step after which calls are admitted; they are queued for `QUEUED_LEASE`."""
        return self._store.step(ADMISSION, (), step, _read_admitted, lease_ms=_ms(QUEUED_LEASE), **arguments)

    def withdraw(self, calls: Iterable[CallId]) -> Commands[None]:
        """Remove these calls, wherever they wait or are in flight."""
        return self._in_batches("withdraw", calls, _read_nothing)

    async def find(self, calls: Sequence[CallId]) -> list[str]:
        """Where each call is: ``waiting``, ``delayed``, ``single``, ``part`` or ``nowhere``."""
        return _flat(await self._in_batches("find", calls, list[str]))

    def _in_batches(self, step: str, calls: Iterable[CallId], read: Callable[[Any], T]) -> Commands[T]:
        names = [str(call) for call in calls]
        batches = (names[first : first + MOST_NAMED] for first in range(0, len(names), MOST_NAMED))
        return Commands(
            self._store.step(ADMISSION, (), step, read, models=len(self._models), rest=[*self._models, *batch])
            for batch in batches
        )

    def waiting_for_closed(self, most: int = 200) -> Command[list[tuple[str, CallId]]]:
        """Calls that wait for closed models only, each with its waiting list: at most so many of a list."""
        return self._store.step(
            ADMISSION,
            (),
            "waiting_for_closed",
            lambda rows: [(name, CallId.parse(call)) for name, call in rows],
            most=most,
        )

    def waiting_positions(self, calls: Sequence[CallId]) -> Command[list[tuple[str, int]]]:
        """The waiting list of each call ("" for none, see `admission.lua`), and how many calls are before it there."""
        return self._store.step(
            ADMISSION,
            (),
            "waiting_positions",
            lambda rows: [(name, before) for name, before in rows],
            rest=[str(call) for call in calls],
        )

    # -- leases ----------------------------------------------------------------------------------

    def lease(self, calls: Mapping[str, Sequence[CallId]], *, seconds: float = LEASE) -> Commands[None]:
        """Take or renew the leases of these calls, by model, for `seconds` from now."""
        commands = Commands[None]()
        for model, leased in calls.items():
            for kind in ("single", "part"):
                names = [str(call) for call in leased if (call.wave is None) == (kind == "single")]
                if names:
                    commands.append(self._note("lease", kind=kind, model=model, lease_ms=_ms(seconds), rest=names))
        return commands

    def forget(self, calls: Sequence[Admitted]) -> Commands[None]:
        """End the leases of these calls; the next admission fills their slots."""
        return Commands(self._note("forget", model=model, rest=[str(call)]) for call, model in calls)

    def lease_left(self, call: CallId, model: str) -> Command[float]:
        """Seconds until a call's lease lapses; not above zero without a lease."""
        return self._store.step(FLEET, (), "lease_left", lambda left: float(left) / 1000, call=str(call), model=model)

    def lapsed(self, most: int = 500) -> Command[list[Admitted]]:
        """Calls whose lease has lapsed, with their models."""
        return self._store.step(FLEET, (), "lapsed", _read_admitted, most=most, rest=self._models)

    # -- jobs for the sweeper to look at -----------------------------------------------------------

    def watch(self, jobs: Mapping[str, float]) -> Command[None]:
        """Have the sweeper look at each job so many seconds from now."""
        return self._note("watch", rest=_flat((at, job) for job, at in jobs.items()))

    def unwatch(self, job_ids: Sequence[str]) -> Commands[None]:
        """Take jobs that have ended off the sweeper's lists."""
        return Commands(
            Command(self._store, ("ZREM", f"{_PREFIX}{key}", *job_ids), _read_nothing)
            for key in ("active", "deadlines")
            if job_ids
        )

    def due(self, most: int = 500) -> Command[list[str]]:
        """Jobs that are due for a look, the longest due first."""
        return self._store.step(FLEET, (), "due", list[str], most=most)

    def set_deadlines(self, jobs: Mapping[str, float]) -> Command[None]:
        """Note the deadline of each job, in seconds from now."""
        return self._note("set_deadlines", rest=_flat((at, job) for job, at in jobs.items()))

    def near_deadlines(self, *, within: float, most: int = 200) -> Command[dict[str, float]]:
        """Jobs whose deadline comes `within` so many seconds, and the seconds until then: the earliest first."""
        return self._store.step(
            FLEET,
            (),
            "near_deadlines",
            lambda flat: {job: float(left) for job, left in zip(flat[::2], flat[1::2], strict=True)},
            seconds=within,
            most=most,
        )

    # -- cancelled jobs, for the workers that run them ---------------------------------------------

    async def cancel(self, job_id: str) -> None:
        """Have every worker drop this job's running calls at its next heartbeat; the job must have ended."""
        key, now = f"{_PREFIX}cancelled", await self.now()
        await self._store.run(("ZADD", key, now, job_id), ("ZREMRANGEBYSCORE", key, "-inf", now - CANCEL_KEPT))

    def cancelled(self) -> Command[frozenset[str]]:
        return Command(self._store, ("ZRANGE", f"{_PREFIX}cancelled", 0, -1), frozenset)

    # -- leadership and the server's clock ---------------------------------------------------------

    def lead(self, role: str, name: str, *, seconds: float) -> Command[bool]:
        """Whether `name` has `role` for the next `seconds`: one holder in the fleet at a time."""
        return self._store.step(FLEET, (), "lead", bool, role=role, name=name, ms=_ms(seconds))

    def now(self) -> Command[float]:
        """The server's time, in Unix seconds."""
        return Command(self._store, ("TIME",), lambda clock: int(clock[0]) + int(clock[1]) / 1e6)

    def _note(self, step: str, **arguments: Any) -> Command[None]:
        return self._store.step(FLEET, (), step, _read_nothing, **arguments)


class _LoadRow(NamedTuple):
    """What `snapshot.lua` returns of a model; an absent value is ""."""

    capacity: int
    singles: int
    parts: int
    waiting: int
    bound: int
    closed: str
    latency_ms: str
    latency_age_ms: str | int
    faults: str | int
    fault_age_ms: str | int
    errors: str | int
    queue_wait_ms: str | int
    token_ms: str
    requests: int
    tokens: int


def _read_load(reply: Sequence[Any]) -> ModelLoad:
    row = _LoadRow(*reply)
    latency_age, fault_age = _seconds(row.latency_age_ms), _seconds(row.fault_age_ms)
    return ModelLoad(
        capacity=row.capacity,
        singles=row.singles,
        parts=row.parts,
        waiting=row.waiting,
        bound=row.bound,
        closed=row.closed,
        latency_s=_seconds(row.latency_ms),
        seen_s=min((age for age in (latency_age, fault_age) if age is not None), default=INFINITE),
        faults=int(row.faults),
        fault_s=INFINITE if fault_age is None else fault_age,
        errors=float(row.errors),
        queue_wait_s=_seconds(row.queue_wait_ms) or 0.0,
        token_s=_seconds(row.token_ms),
        calls_per_s=row.requests / 60,
        tokens_per_s=row.tokens / 60,
    )


def _seconds(ms: str | float) -> float | None:
    return None if ms == "" else float(ms) / 1000


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _flat(rows: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for row in rows for item in row]


def _read_nothing(_: Any) -> None:
    return None


def _read_admitted(reply: Sequence[str]) -> list[Admitted]:
    return [Admitted(CallId.parse(call), model) for call, model in zip(reply[::2], reply[1::2], strict=True)]
