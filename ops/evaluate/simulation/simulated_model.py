"""One simulated model: its queue and its calls, how long they take, what was learned of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from ops.evaluate.simulation.scenarios import Models
from tasks.config.models import Breaker as Settings
from tasks.contract.result import Tried
from tasks.routing.model_statistics import ModelStatistics, observe
from tasks.routing.snapshot import INFINITE, ModelLoad, Ranking

#: As in `limiter.lua`: slices of the rolling window, and the longest time that a model is left alone.
SLICES = 6
LONGEST_S = 900.0


@dataclass(slots=True)
class SimulatedBreaker:
    """The breaker of `limiter.lua` with a given clock: closed, open until a moment, then half open for one probe."""

    settings: Settings = field(default_factory=Settings)
    open_until: float | None = None
    open_for: float = 0.0
    probing: bool = False
    #: Of each slice of the window: its number, attempts that went well, and badly.
    slices: list[tuple[int, int, int]] = field(default_factory=lambda: [(-SLICES, 0, 0)] * SLICES)

    def closed_to_calls(self, now: float) -> bool:
        """Whether the breaker refuses calls; half open it admits one."""
        return self.open_until is not None and now < self.open_until

    def lets_through(self, now: float) -> bool:
        """Whether one more call may start."""
        return self.open_until is None or (now >= self.open_until and not self.probing)

    def start(self) -> bool:
        """A call starts; returns whether it is the probe."""
        if self.open_until is None:
            return False
        self.probing = True
        return True

    def end(self, now: float, *, good: bool, probe: bool) -> float | None:
        """A call has ended; returns until when the breaker is open, where it opened just now."""
        if probe:
            if good:
                self.open_until, self.probing = None, False
                self.slices = [(-SLICES, 0, 0)] * SLICES
                return None
            return self._open(now, min(LONGEST_S, 2 * self.open_for))
        if self.open_until is not None:
            return None  # it started before, and says nothing of the model as it is now
        slot = int(now * SLICES / self.settings.window)
        at, well, badly = self.slices[slot % SLICES]
        if at != slot:
            well = badly = 0
        self.slices[slot % SLICES] = (slot, well + good, badly + (not good))
        if good:
            return None
        lately = [one for one in self.slices if slot - one[0] < SLICES]
        bad = sum([one[2] for one in lately])
        count = bad + sum([one[1] for one in lately])
        if count >= self.settings.attempts and bad >= count * self.settings.error_rate:
            return self._open(now, self.settings.open)
        return None

    def _open(self, now: float, seconds: float) -> float:
        self.open_until, self.open_for, self.probing = max(self.open_until or 0.0, now + seconds), seconds, False
        self.slices = [(-SLICES, 0, 0)] * SLICES
        return self.open_until


#: As in `admission.lua`: a model's queue holds this many times its capacity.
AHEAD = 2


@dataclass(eq=False, slots=True)
class Call:
    """One request on its way; times in seconds of the simulation."""

    arrived: float
    route: int
    key: str
    tokens: int | None = None
    ranking: Ranking | None = None
    waits_since: float = 0.0
    admitted: float = 0.0
    started: float = 0.0
    probe: bool = False
    tried: tuple[Tried, ...] = ()


@dataclass(eq=False, slots=True)
class SimulatedModel:
    """`place` is its number among all; `waiting` and `bound` count calls in the backlog, as `ModelLoad` has them."""

    name: str
    place: int
    spec: Models
    present: bool = True
    running: int = 0
    queue: deque[Call] = field(default_factory=deque)
    waiting: int = 0
    bound: int = 0
    statistics: ModelStatistics = field(default_factory=ModelStatistics)
    breaker: SimulatedBreaker = field(default_factory=SimulatedBreaker)
    _minute: int = 0
    _count: int = 0
    _before: int = 0

    @property
    def pending(self) -> int:
        return self.running + len(self.queue)

    @property
    def load(self) -> float:
        return (self.running + len(self.queue)) / self.spec.capacity

    def closed(self, now: float) -> str:
        if not self.present:
            return "drained"
        return "breaker" if self.breaker.closed_to_calls(now) else ""

    def has_room(self, now: float) -> bool:
        if not self.present or self.running + len(self.queue) >= AHEAD * self.spec.capacity:
            return False
        # Half open, none may stand in its queue beside the probe.
        return self.breaker.open_until is None or (self.breaker.lets_through(now) and not self.queue)

    def seen(self, now: float) -> ModelLoad:
        """The model in a snapshot."""
        statistics = self.statistics
        fault_s = now - statistics.fault_at if statistics.fault_at is not None else INFINITE
        seen_s = now - statistics.latency_at if statistics.latency_s is not None else INFINITE
        return ModelLoad(
            capacity=self.spec.capacity,
            singles=self.running + len(self.queue),
            waiting=self.waiting,
            bound=self.bound,
            closed=self.closed(now),
            latency_s=statistics.latency_s,
            seen_s=min(seen_s, fault_s),
            faults=statistics.faults,
            fault_s=fault_s,
            errors=statistics.errors,
            queue_wait_s=statistics.queue_wait_s or 0.0,
            token_s=statistics.token_s,
            calls_per_s=self._lately(now) / 60,
        )

    def draw(self, call: Call, now: float, chance: Random) -> tuple[float, bool]:
        """Seconds that a call which starts now takes, and whether it succeeds."""
        spec = self.spec
        if spec.outages is not None and spec.outages.hold(now):
            return spec.outages.after_s, False
        seconds = spec.latency.draw(chance.random()) + spec.per_token_s * (call.tokens or 0)
        for slow in spec.slow:
            if slow.since <= now and (slow.until is None or now < slow.until):
                seconds *= slow.times
        return seconds, not spec.error_rate or chance.random() >= spec.error_rate

    def count(self, now: float) -> None:
        """One more attempt, for those who look at how many there were lately."""
        minute = int(now // 60)
        if minute != self._minute:
            self._before = self._count if minute == self._minute + 1 else 0
            self._minute, self._count = minute, 0
        self._count += 1

    def learn(self, call: Call, now: float, *, good: bool) -> float | None:
        """An attempt has ended; returns until when the model is left alone, where that follows just now."""
        self.statistics = observe(
            self.statistics,
            now,
            "ok" if good else "fault",
            now - call.started,
            call.started - call.admitted,
            call.tokens if good else None,
        )
        return self.breaker.end(now, good=good, probe=call.probe)

    def _lately(self, now: float) -> float:
        """Attempts of the last minute: as in `snapshot.lua`, this minute's and the rest of the one before."""
        age = int(now // 60) - self._minute
        left = 1 - (now % 60) / 60
        if age == 0:
            return self._count + self._before * left
        return self._count * left if age == 1 else 0.0
