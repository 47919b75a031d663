"""What a strategy sees and what it says: plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pydantic import JsonValue

__all__ = ["ModelLoad", "Preference", "Ranking", "Request", "Snapshot", "Strategy"]


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model at one moment. Counts are calls, over the whole fleet."""

    capacity: int
    #: Single calls queued or running.
    singles: int = 0
    #: Parts of fan-outs queued or running.
    parts: int = 0
    #: Calls in the backlog that this model may take, alone or among others.
    waiting: int = 0

    @property
    def load(self) -> float:
        """Calls in the model's queue or running, over capacity; infinite where there is no capacity."""
        return (self.singles + self.parts) / self.capacity if self.capacity else float("inf")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at one moment; `turn` counts up with each decision of a route, over all routers."""

    turn: int
    models: Mapping[str, ModelLoad]

    def after(self, model: str) -> Snapshot:
        """The fleet once another part has been sent to `model`."""
        load = self.models[model]
        return Snapshot(self.turn + 1, {**self.models, model: replace(load, parts=load.parts + 1)})


@dataclass(frozen=True, slots=True)
class Request:
    """What a strategy may know of a job: never its text."""

    route: str
    key: str
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    priority_metric: str | None = None


@dataclass(frozen=True, slots=True)
class Preference:
    """How much a call wants a model: the least ``base + slope * load`` is taken, with the load at that moment."""

    model: str
    base: float
    slope: float = 0.0

    def score(self, load: float) -> float:
        # Written so that an infinite load of a model without capacity is infinite, and not "not a number".
        return self.base + (self.slope * load if self.slope else 0.0)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A strategy's word. `bound`: the call waits for its first preference; else it takes whichever has room."""

    preferences: tuple[Preference, ...]
    bound: bool
    reason: str


Strategy: TypeAlias = Callable[[Request, tuple[str, ...], Snapshot], Ranking]
