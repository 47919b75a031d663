"""The breaker of `limiter.lua`, as a value with a clock that is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.config.models import Breaker as Settings

__all__ = ["SimulatedBreaker"]

#: As in `limiter.lua`: slices of the rolling window, and the longest time that a model is left alone.
SLICES = 6
LONGEST_S = 900.0


@dataclass(slots=True)
class SimulatedBreaker:
    """Closed, open until a moment, then half open: one probe, whose end decides."""

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
