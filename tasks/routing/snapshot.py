"""The values between routers and strategies: the fleet's snapshot, a request, a ranking; and what a queue costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from pydantic import BaseModel, JsonValue

#: The load of a model without capacity, and the age of a sample that does not exist.
INFINITE = float("inf")

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model at one moment, over the whole fleet. Counts are calls.

    Its statistics come from every attempt; `tasks.routing.model_statistics` has their formulas.
    """

    capacity: int
    #: Single calls queued or running.
    singles: int = 0
    #: Parts of fan-outs queued or running.
    parts: int = 0
    #: Calls in the backlog that this model may take, alone or among others.
    waiting: int = 0
    #: Of these, calls that are bound to this model: by its turn, or by their key.
    bound: int = 0
    #: Why no call is sent there now: ``breaker``, ``budget``, ``paused``, ``drained`` or ``dead``; "" where it is open.
    closed: str = ""
    #: Seconds that a call takes, as a peak EWMA; None before the first answer.
    latency_s: float | None = None
    #: Seconds since the last attempt that says something of it.
    seen_s: float = INFINITE
    #: Failures since the last answer, and seconds since the last of them.
    faults: int = 0
    fault_s: float = INFINITE
    #: Share of the latest attempts that failed.
    errors: float = 0.0
    #: Seconds that calls stood in its queue lately.
    queue_wait_s: float = 0.0
    #: Seconds for each token of an answer, without the time before the first one.
    token_s: float | None = None
    #: Attempts and tokens in a second, over the last minute.
    calls_per_s: float = 0.0
    tokens_per_s: float = 0.0

    @property
    def pending(self) -> int:
        """Calls in the model's queue or running."""
        return self.singles + self.parts

    @property
    def load(self) -> float:
        """`pending` over capacity; infinite where there is no capacity."""
        return (self.singles + self.parts) / self.capacity if self.capacity else INFINITE


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
class Traits:
    """What the configuration, or a measured profile, says of a model."""

    #: Share of the calls that it is meant to get, beside others' weights.
    weight: float = 1.0
    #: USD of a typical call: 1,000 tokens in, 250 out.
    cost_usd: float = 0.0
    #: Scores from 0 to 100, higher is better: speed, accuracy, creativity, ethics, cost. What is unknown is missing.
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """The facts of a job that a strategy may use: never its text."""

    route: str
    key: str
    #: Whether the producer named the key; else it is the hash of the input.
    key_given: bool = False
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    #: Tokens of the input, and the time in the configuration's zone, where the strategy's options ask for them.
    length: int | None = None
    at: datetime | None = None
    priority_metric: str | None = None
    #: A random number of 64 bits, drawn for this decision: the only source of chance for strategies.
    seed: int = 0
    #: The route's options of its strategy; None without any, or where the job names another strategy.
    options: BaseModel | None = None
    #: Traits of each candidate.
    traits: Mapping[str, Traits] = field(default_factory=dict)
    #: The probability that each candidate answers this text well, 0 to 1, where a predictor was fitted.
    quality: Mapping[str, float] = field(default_factory=dict)

    def traits_of(self, model: str) -> Traits:
        return self.traits.get(model, _UNKNOWN)

    def options_as(self, kind: type[Options]) -> Options:
        """The options of a strategy whose options are of this kind; its defaults where none are given."""
        return self.options if isinstance(self.options, kind) else cast("Options", _defaults(kind))


@cache
def _defaults(kind: type[BaseModel]) -> BaseModel:
    return kind()


_UNKNOWN = Traits()


class Preference(NamedTuple):
    """How much a call prefers a model: the least ``base + slope * load`` wins, with the load at admission."""

    model: str
    base: float
    slope: float = 0.0

    def score(self, load: float) -> float:
        # Written so that an infinite load of a model without capacity is infinite, and not "not a number".
        return self.base + (self.slope * load if self.slope else 0.0)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a strategy returns.

    `bound`: the call waits for its first preference, and the rest may take it only while that model is closed; else it
    takes any that has room. `balance`, with a bound call: a model that has more than `balance` times its even share of
    the calls is passed over for the next preference (bounded load). The last `fallbacks` preferences may take the call
    only while all the others are closed.
    """

    preferences: tuple[Preference, ...]
    bound: bool
    reason: str
    balance: float | None = None
    fallbacks: int = 0

    @property
    def candidate_count(self) -> int:
        """How many of the preferences, from the first, are candidates; the rest are fallbacks."""
        return 1 if self.bound else len(self.preferences) - self.fallbacks


Strategy: TypeAlias = Callable[[Request, tuple[str, ...], Snapshot], Ranking]
"""A strategy may have an attribute `options`: the pydantic model of what ``routes.NAME.options`` may say to it."""


def options_of(strategy: Any) -> type[BaseModel] | None:
    """The kind of options that a strategy takes; None where it takes none."""
    kind = getattr(strategy, "options", None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def estimate_wait_s(load: ModelLoad, *, before: int | None = None) -> float:
    """Seconds until a call starts there that has `before` others in front (by default all there are), running ones too.

    With all c slots busy by calls of mean length L one ends every L / c seconds (Little's law), so a call with n in
    front of it starts after (n - c + 1) · L / c. L is the model's peak EWMA: the estimate errs to the late side. With a
    slot free it starts at once, without capacity never. Of a model that has not answered yet nothing is known but how
    long calls stood in its queue.
    """
    if not load.capacity:
        return INFINITE
    must_end = (load.pending + load.bound if before is None else before) - load.capacity + 1
    if must_end <= 0:
        return 0.0
    return load.queue_wait_s if load.latency_s is None else must_end * load.latency_s / load.capacity


def estimate_total_s(load: ModelLoad, *, before: int | None = None) -> float:
    """Seconds until such a call has its answer; what an unseen model takes is not counted."""
    return estimate_wait_s(load, before=before) + (load.latency_s or 0.0)


def is_too_late(load: ModelLoad, left_s: float | None, *, before: int | None = None) -> bool:
    """Whether such a call is expected to end later than in `left_s` seconds; None: its job has no deadline."""
    return left_s is not None and estimate_total_s(load, before=before) > left_s
