"""The fleet's live state: who waits, what is in flight, and the feeder that admits (`fleet.lua`).

Everything that runs is a lease that lapses when its worker dies; nothing is a counter that could drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tasks.contract.ids import CallId
from tasks.contract.job import PRIORITIES
from tasks.ledger.store import Script, Store, Words
from tasks.routing.snapshot import INFINITE, ModelLoad, Preference, Ranking, Snapshot

__all__ = ["FLEET", "LEASE", "QUEUED_LEASE", "WAVE", "Admitted", "Fleet", "admitted_of"]

FLEET = Script("fleet.lua")

#: Seconds that a running call is its worker's without a heartbeat. A dead worker's calls run again after this.
LEASE = 6.0
#: Seconds after which the sweeper looks whether a queued call's message is still there.
QUEUED_LEASE = 10.0
#: Calls that one step of the feeder admits at most: bounds the time the server spends in it.
MOST_ADMITTED = 200
#: Values that `fleet.lua` tells of a model in a snapshot.
FIGURES = 15
#: Calls that one script is told at most, for the same reason.
MOST_NAMED = 1000
#: Parts of a fan-out that are sent at once.
WAVE = 1000

#: Seconds that a cancellation is told to workers: many beats, and few ids to read at each.
CANCEL_KEPT = 30.0

_PREFIX = "pm:{fleet}:"


class Admitted(NamedTuple):
    """A call that now has its place in a model's queue: its message shall be published."""

    call: CallId
    model: str


class Fleet:
    """Each method is one round trip and may raise `Unreachable`. `models` are the names of the configuration."""

    def __init__(self, store: Store, models: Sequence[str]) -> None:
        self._store = store
        self._models = tuple(models)

    # -- capacity --------------------------------------------------------------------------------

    async def configure(self, capacities: Mapping[str, int]) -> None:
        """Tell the fleet the capacities of the configuration."""
        flat = [item for pair in capacities.items() for item in pair]
        key = f"{_PREFIX}configured"
        _, known = await self._store.run(("HSET", key, *flat), ("HKEYS", key))
        gone = [model for model in known if model not in capacities]
        if gone:
            # Nobody serves their queues any more: what was admitted there would wait for ever.
            await self._store.run(("HDEL", key, *gone))

    async def scale(self, model: str, capacity: int | None) -> None:
        """Set a model's capacity, whatever the configuration says; None goes back to the configuration."""
        if capacity is None:
            await self._store.run(("HDEL", f"{_PREFIX}scaled", model))
        else:
            await self._store.run(("HSET", f"{_PREFIX}scaled", model, capacity))

    async def snapshot(self, models: Sequence[str] | None = None, *, turn: str = "") -> Snapshot:
        """The load of each model (by default all), and a number that counts up for each key `turn` (0 without)."""
        names = self._models if models is None else tuple(models)
        (reply,) = await self._store.run(_step("snapshot", turn, *names))
        loads = {name: _load(reply[1 + FIGURES * place :]) for place, name in enumerate(names)}
        return Snapshot(int(reply[0]), loads)

    async def drain(self, model: str, *, on: bool, move: bool = False) -> None:
        """Have `model` take no new calls, or take that back.

        What stands in its queue is worked off there; with `move` it goes to other candidates where there are some.
        """
        await self._store.run(_step("drain", model, "move" if on and move else int(on)))

    async def drained(self) -> dict[str, bool]:
        """The models that are drained, and whether what is queued there shall move."""
        (marks,) = await self._store.run(("HGETALL", f"{_PREFIX}drained"))
        return {model: mark == "move" for model, mark in marks.items()}

    # -- presence --------------------------------------------------------------------------------

    def serve_command(self, process: str, models: Collection[str], left: Collection[str] = ()) -> Words:
        """The command by which a worker process says that it serves these models, and no longer those it `left`.

        A model that was served, and of which nobody has said so for ten seconds, is dead: nobody is sent there.
        """
        return _step("serve", process, len(models), *models, *left)

    async def serving(self) -> dict[str, int]:
        """How many worker processes serve each model; one that nobody serves is not among them."""
        (marks,) = await self._store.run(_step("serving"))
        return dict(Counter(mark.partition("|")[2] for mark in marks))

    # -- admission -------------------------------------------------------------------------------

    async def admit(
        self,
        call: CallId,
        preferences: Sequence[Preference],
        *,
        bound: bool,
        priority: str,
        balance: float | None = None,
        fallbacks: int = 0,
    ) -> list[Admitted]:
        """Put a call into the backlog and admit whom there is room for: perhaps this one, perhaps others."""
        command = self.admit_command(
            call, preferences, bound=bound, priority=priority, balance=balance, fallbacks=fallbacks
        )
        (reply,) = await self._store.run(command)
        return admitted_of(reply)

    def admit_command(
        self,
        call: CallId,
        preferences: Sequence[Preference],
        *,
        bound: bool,
        priority: str,
        balance: float | None = None,
        fallbacks: int = 0,
    ) -> Words:
        """The command of `admit`. `bound`, `balance` and `fallbacks` as in a `Ranking`."""
        candidates = _candidate_count(preferences, bound=bound, fallbacks=fallbacks)
        bounds = "" if balance is None else f"{balance}:{len(preferences) - fallbacks}"
        return _step(
            "admit", str(call), candidates, bounds, PRIORITIES[priority],
            _ms(QUEUED_LEASE), MOST_ADMITTED, len(self._models), *self._models, *_flat(preferences),
        )  # fmt: skip

    async def release(self, call: CallId, model: str) -> list[Admitted]:
        """A call has ended: admit the next."""
        (reply,) = await self._store.run(self.release_command(call, model))
        return admitted_of(reply)

    def release_command(self, call: CallId, model: str, *, most: int = MOST_ADMITTED) -> Words:
        return _step("release", str(call), model, _ms(QUEUED_LEASE), most)

    async def delay(
        self,
        call: CallId,
        model: str,
        preferences: Sequence[Preference],
        *,
        bound: bool,
        priority: str,
        seconds: float,
        fallbacks: int = 0,
    ) -> list[Admitted]:
        """A call leaves its slot at `model` and waits anew after `seconds`, as `admit` has calls wait."""
        candidates = _candidate_count(preferences, bound=bound, fallbacks=fallbacks)
        command = _step(
            "delay", str(call), model, candidates, PRIORITIES[priority],
            _ms(seconds), _ms(QUEUED_LEASE), MOST_ADMITTED, *_flat(preferences),
        )  # fmt: skip
        (reply,) = await self._store.run(command)
        return admitted_of(reply)

    def move_command(
        self,
        call: CallId,
        model: str,
        preferences: Sequence[Preference],
        *,
        bound: bool,
        priority: str,
        waited_s: float,
        fallbacks: int = 0,
    ) -> Words:
        """The command that has a call leave `model`, or its waiting list, and wait as if it had come `waited_s` ago.

        Its reply, read by `admitted_of`, are the calls that were admitted: perhaps this one, perhaps others.
        """
        candidates = _candidate_count(preferences, bound=bound, fallbacks=fallbacks)
        return _step(
            "move", str(call), model, candidates, PRIORITIES[priority],
            _ms(waited_s), _ms(QUEUED_LEASE), MOST_ADMITTED, *_flat(preferences),
        )  # fmt: skip

    async def waiting_for_closed(self, most: int = 200) -> list[tuple[str, CallId]]:
        """Calls that wait for closed models only, each with its waiting list: at most so many of a list."""
        (flat,) = await self._store.run(_step("waiting_for_closed", most))
        return [(name, CallId.parse(call)) for name, call in zip(flat[::2], flat[1::2], strict=True)]

    async def waiting_positions(self, calls: Sequence[CallId]) -> list[tuple[str, int]]:
        """The waiting list of each call ("" for none, see `fleet.lua`), and how many calls are before it there."""
        if not calls:
            return []
        (flat,) = await self._store.run(_step("waiting_positions", *map(str, calls)))
        return [(name, int(before)) for name, before in zip(flat[::2], flat[1::2], strict=True)]

    async def tick(self) -> list[Admitted]:
        """Bring back what was delayed until now, and admit."""
        (reply,) = await self._store.run(_step("tick", _ms(QUEUED_LEASE), MOST_ADMITTED))
        return admitted_of(reply)

    async def withdraw(self, calls: Iterable[CallId]) -> None:
        """These calls are not wanted any more, wherever they wait."""
        names = [str(call) for call in calls]
        commands = [
            _step("withdraw", len(self._models), *self._models, *names[first : first + MOST_NAMED])
            for first in range(0, len(names), MOST_NAMED)
        ]
        if commands:
            await self._store.run(*commands)

    # -- leases ----------------------------------------------------------------------------------

    async def lease(self, calls: Mapping[str, Sequence[CallId]], *, seconds: float = LEASE) -> None:
        """Take or keep the leases of these calls, by model, for `seconds` from now."""
        commands = self.lease_commands(calls, seconds=seconds)
        if commands:
            await self._store.run(*commands)

    def lease_commands(self, calls: Mapping[str, Sequence[CallId]], *, seconds: float) -> list[Words]:
        commands: list[Words] = []
        for model, held in calls.items():
            singles = [str(call) for call in held if call.wave is None]
            parts = [str(call) for call in held if call.wave is not None]
            commands += [
                _step("lease", kind, model, _ms(seconds), *names)
                for kind, names in (("single", singles), ("part", parts))
                if names
            ]
        return commands

    async def forget(self, calls: Sequence[Admitted]) -> None:
        """Forget the leases of these calls without admitting anybody: the next step of the feeder does."""
        if calls:
            await self._store.run(*(self.release_command(call, model, most=0) for call, model in calls))

    async def lease_left(self, call: CallId, model: str) -> float:
        """Seconds until a call's lease lapses; not above zero when nobody holds it."""
        (left,) = await self._store.run(_step("lease_left", str(call), model))
        return float(left) / 1000

    async def lapsed(self, most: int = 500) -> list[Admitted]:
        """Calls whose lease has lapsed, with the model they were held at."""
        (reply,) = await self._store.run(_step("lapsed", most, *self._models))
        return [
            Admitted(CallId.parse(call), model)
            for _, model, call in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    async def find(self, calls: Sequence[CallId]) -> list[str]:
        """Where each call stands: ``waiting``, ``delayed``, ``single``, ``part`` or ``nowhere``."""
        names = [str(call) for call in calls]
        commands = [
            _step("find", len(self._models), *self._models, *names[first : first + MOST_NAMED])
            for first in range(0, len(names), MOST_NAMED)
        ]
        return [str(place) for reply in await self._store.run(*commands) for place in reply] if commands else []

    # -- jobs that shall be looked at again --------------------------------------------------------

    def watch_command(self, jobs: Mapping[str, float]) -> Words:
        """The command that has the sweeper look at each job so many seconds from now."""
        return _step("watch", *(item for job_id, seconds in jobs.items() for item in (seconds, job_id)))

    async def watch(self, jobs: Mapping[str, float]) -> None:
        if jobs:
            await self._store.run(self.watch_command(jobs))

    async def unwatch(self, job_ids: Sequence[str]) -> None:
        if job_ids:
            await self._store.run(*(("ZREM", f"{_PREFIX}{key}", *job_ids) for key in ("active", "deadlines")))

    def set_deadlines_command(self, jobs: Mapping[str, float]) -> Words:
        """The command that notes when each job must have ended, in seconds from now."""
        return _step("set_deadlines", *(item for job_id, seconds in jobs.items() for item in (seconds, job_id)))

    async def near_deadlines(self, *, within: float, most: int = 200) -> dict[str, float]:
        """Jobs whose deadline comes `within` so many seconds, and the seconds until then: the first ones first."""
        (flat,) = await self._store.run(_step("near_deadlines", within, most))
        return {job_id: float(left) for job_id, left in zip(flat[::2], flat[1::2], strict=True)}

    async def due(self, most: int = 500) -> list[str]:
        """Jobs whose time for a look has come, the longest due first."""
        (reply,) = await self._store.run(_step("due", most))
        return list(reply)

    # -- cancelled jobs, for the workers that run them ---------------------------------------------

    async def cancel(self, job_id: str) -> None:
        """Have every worker drop this job's running calls at its next heartbeat; the job must have ended."""
        key, now = f"{_PREFIX}cancelled", await self.now()
        await self._store.run(("ZADD", key, now, job_id), ("ZREMRANGEBYSCORE", key, "-inf", now - CANCEL_KEPT))

    async def cancelled(self) -> frozenset[str]:
        (reply,) = await self._store.run(("ZRANGE", f"{_PREFIX}cancelled", 0, -1))
        return frozenset(reply)

    # -- leadership and the server's clock ---------------------------------------------------------

    async def lead(self, role: str, name: str, *, seconds: float) -> bool:
        """Whether `name` has `role` for the next `seconds`: one holder in the fleet at a time."""
        (has,) = await self._store.run(_step("lead", role, name, _ms(seconds)))
        return bool(has)

    async def now(self) -> float:
        """The server's time, in Unix seconds."""
        (clock,) = await self._store.run(("TIME",))
        return int(clock[0]) + int(clock[1]) / 1e6


def _step(step: str, *args: Any) -> Words:
    keys = [f"{_PREFIX}waiting-lists", f"{_PREFIX}configured", f"{_PREFIX}scaled"]
    return FLEET.command(keys, _PREFIX, step, *args)


def _candidate_count(preferences: Sequence[Preference], *, bound: bool, fallbacks: int) -> int:
    return Ranking(tuple(preferences), bound=bound, reason="", fallbacks=fallbacks).candidate_count


def _flat(preferences: Sequence[Preference]) -> list[str | float]:
    return [item for preference in preferences for item in preference]


def _load(figures: Sequence[Any]) -> ModelLoad:
    """One model of a snapshot, from what stands first in `figures`."""
    capacity, singles, parts, waiting, bound, closed, *did, calls, tokens = figures[:FIGURES]
    latency, latency_age, faults, fault_age, errors, queue_wait, token = (
        float(figure) if figure != "" else None for figure in did
    )
    ages = [age / 1000 for age in (latency_age, fault_age) if age is not None]
    return ModelLoad(
        capacity=int(capacity),
        singles=int(singles),
        parts=int(parts),
        waiting=int(waiting),
        bound=int(bound),
        closed=closed,
        latency_s=None if latency is None else latency / 1000,
        seen_s=min(ages, default=INFINITE),
        faults=int(faults or 0),
        fault_s=INFINITE if fault_age is None else fault_age / 1000,
        errors=errors or 0.0,
        queue_wait_s=(queue_wait or 0.0) / 1000,
        token_s=None if token is None else token / 1000,
        calls_per_s=int(calls) / 60,
        tokens_per_s=int(tokens) / 60,
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def admitted_of(reply: Sequence[str]) -> list[Admitted]:
    return [Admitted(CallId.parse(call), model) for call, model in zip(reply[::2], reply[1::2], strict=True)]
