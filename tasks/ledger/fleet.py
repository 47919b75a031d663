"""The fleet's live state: who waits, what is in flight, and the feeder that admits (`fleet.lua`).

Everything that runs is a lease that lapses when its worker dies; nothing is a counter that could drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.job import PRIORITIES
from tasks.ledger.store import Command, Script, Store
from tasks.routing.snapshot import ModelLoad, Preference, Snapshot

__all__ = ["FLEET", "LEASE", "QUEUED_LEASE", "WAVE", "Admitted", "CallId", "Fleet", "admitted_of"]

FLEET = Script("fleet.lua")

#: Seconds that a running call is its worker's without a heartbeat. A dead worker's calls run again after this.
LEASE = 6.0
#: Seconds after which the sweeper looks whether a queued call's message is still there.
QUEUED_LEASE = 10.0
#: Calls that one step of the feeder admits at most: bounds the time the server spends in it.
MOST_ADMITTED = 200
#: Calls that one script is told at most, for the same reason.
MOST_NAMED = 1000
#: Parts of a fan-out that are sent at once.
WAVE = 1000

#: Seconds that a cancellation is told to workers: many beats, and few ids to read at each.
CANCEL_KEPT = 30.0

_PREFIX = "pm:{fleet}:"


@dataclass(frozen=True, slots=True)
class CallId:
    """A call's name, also its Celery task id: ``<job>.<index>``, or ``<job>.<index>.<wave>`` in a fan-out."""

    job: str
    index: int
    wave: int | None = None

    def __str__(self) -> str:
        return f"{self.job}.{self.index}" + ("" if self.wave is None else f".{self.wave}")

    @classmethod
    def parse(cls, text: str) -> CallId:
        job, index, *wave = text.split(".")
        return cls(job, int(index), int(wave[0]) if wave else None)

    @classmethod
    def part(cls, job: str, index: int) -> CallId:
        return cls(job, index, index // WAVE)


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
        figures = [int(figure) for figure in reply[1:]]
        loads = {name: ModelLoad(*figures[4 * place : 4 * place + 4]) for place, name in enumerate(names)}
        return Snapshot(int(reply[0]), loads)

    # -- admission -------------------------------------------------------------------------------

    async def admit(
        self, call: CallId, preferences: Sequence[Preference], *, bound: bool, priority: str
    ) -> list[Admitted]:
        """Put a call into the backlog and admit whom there is room for: perhaps this one, perhaps others."""
        (reply,) = await self._store.run(self.admitting(call, preferences, bound=bound, priority=priority))
        return admitted_of(reply)

    def admitting(self, call: CallId, preferences: Sequence[Preference], *, bound: bool, priority: str) -> Command:
        """The command of `admit`.

        A `bound` call waits for the first of its preferences, and the rest may take it only while that model is closed;
        another takes whichever model has room first.
        """
        wanted = preferences[:1] if bound else preferences
        lane = _lane(preference.model for preference in wanted)
        if bound:
            lane += _spare(preference.model for preference in preferences[1:])
        flat = [item for wish in wanted for item in (wish.model, wish.base, wish.slope)]
        return _step(
            "admit", str(call), lane, PRIORITIES[priority], _ms(QUEUED_LEASE), MOST_ADMITTED,
            len(self._models), *self._models, *flat,
        )  # fmt: skip

    async def release(self, call: CallId, model: str) -> list[Admitted]:
        """A call has ended: admit the next."""
        (reply,) = await self._store.run(self.releasing(call, model))
        return admitted_of(reply)

    def releasing(self, call: CallId, model: str, *, most: int = MOST_ADMITTED) -> Command:
        return _step("release", str(call), model, _ms(QUEUED_LEASE), most)

    async def delay(
        self,
        call: CallId,
        model: str,
        *,
        among: Sequence[str],
        priority: str,
        seconds: float,
        spare: Sequence[str] = (),
    ) -> list[Admitted]:
        """A call leaves its slot and waits anew after `seconds`, for whichever of `among` has room.

        Where `among` is one model, those of `spare` may take the call while it is closed.
        """
        command = _step(
            "delay",
            str(call),
            model,
            _lane(among) + (_spare(spare) if len(among) == 1 else ""),
            PRIORITIES[priority],
            _ms(seconds),
            _ms(QUEUED_LEASE),
            MOST_ADMITTED,
        )
        (reply,) = await self._store.run(command)
        return admitted_of(reply)

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

    async def hold(self, calls: Mapping[str, Sequence[CallId]], *, seconds: float = LEASE) -> None:
        """Take or keep the leases of these calls, by model, for `seconds` from now."""
        commands = self.holding(calls, seconds=seconds)
        if commands:
            await self._store.run(*commands)

    def holding(self, calls: Mapping[str, Sequence[CallId]], *, seconds: float) -> list[Command]:
        commands: list[Command] = []
        for model, held in calls.items():
            singles = [str(call) for call in held if call.wave is None]
            parts = [str(call) for call in held if call.wave is not None]
            commands += [
                _step("hold", kind, model, _ms(seconds), *names)
                for kind, names in (("single", singles), ("part", parts))
                if names
            ]
        return commands

    async def drop(self, calls: Sequence[Admitted]) -> None:
        """Forget the leases of these calls without admitting anybody: the next step of the feeder does."""
        if calls:
            await self._store.run(*(self.releasing(call, model, most=0) for call, model in calls))

    async def lease_left(self, call: CallId, model: str) -> float:
        """Seconds until a call's lease lapses; not above zero when nobody holds it."""
        (left,) = await self._store.run(_step("lease", str(call), model))
        return float(left) / 1000

    async def lapsed(self, most: int = 500) -> list[Admitted]:
        """Calls whose lease has lapsed, with the model they were held at."""
        (reply,) = await self._store.run(_step("lapsed", most, *self._models))
        return [
            Admitted(CallId.parse(call), model)
            for _, model, call in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    async def find(self, calls: Sequence[CallId]) -> list[str]:
        """Where each call stands: ``lane``, ``delayed``, ``single``, ``part`` or ``nowhere``."""
        names = [str(call) for call in calls]
        commands = [
            _step("find", len(self._models), *self._models, *names[first : first + MOST_NAMED])
            for first in range(0, len(names), MOST_NAMED)
        ]
        return [str(place) for reply in await self._store.run(*commands) for place in reply] if commands else []

    # -- jobs that shall be looked at again --------------------------------------------------------

    def watching(self, jobs: Mapping[str, float]) -> Command:
        """The command that has the sweeper look at each job so many seconds from now."""
        return _step("watch", *(item for job_id, seconds in jobs.items() for item in (seconds, job_id)))

    async def watch(self, jobs: Mapping[str, float]) -> None:
        if jobs:
            await self._store.run(self.watching(jobs))

    async def unwatch(self, job_ids: Sequence[str]) -> None:
        if job_ids:
            await self._store.run(("ZREM", f"{_PREFIX}active", *job_ids))

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


def _step(step: str, *args: Any) -> Command:
    keys = [f"{_PREFIX}lanes", f"{_PREFIX}configured", f"{_PREFIX}scaled"]
    return FLEET.command(keys, _PREFIX, step, *args)


def _lane(models: Iterable[str]) -> str:
    return ",".join(sorted(set(models)))


def _spare(models: Iterable[str]) -> str:
    rest = _lane(models)
    return f">{rest}" if rest else ""


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def admitted_of(reply: Sequence[str]) -> list[Admitted]:
    return [Admitted(CallId.parse(call), model) for call, model in zip(reply[::2], reply[1::2], strict=True)]
