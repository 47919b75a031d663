"""What the job ledger reads and writes, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tasks.job import Decision, Job, Tried, Usage

__all__ = ["Claim", "Holder", "Holding", "Outcome", "Parked", "PartPlan", "PartRecord", "Standing"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The part is ours until our lease lapses: everything the call needs."""

    attempt: int
    model: str
    job: Job
    decision: Decision
    title: str
    #: The section's own text, or None where the job's input serves.
    section: str | None
    queue_wait_s: float
    #: Seconds left until the job's deadline, or None.
    time_left_s: float | None
    #: Every model that was asked for this part before.
    tried: tuple[Tried, ...] = ()
    #: Seconds since the part's first attempt began.
    trying_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """No claim.

    `busy`: it runs (`owner`); `done`: `state` is final; `gone`: no such job or part; `elsewhere`: this message is out
    of date, the part stands at another `model`, or waits ("").
    """

    word: Literal["busy", "done", "gone", "elsewhere"]
    owner: str = ""
    state: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class PartPlan:
    """One part of a fan-out, before it starts. `text` is None where the job's own input serves."""

    model: str
    title: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What is kept of a finished part besides its output."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    latency_s: float | None = None
    queue_wait_s: float | None = None
    simulated: bool = False
    error: str | None = None
    #: Who answered, where that isn't the model that the part was claimed for: a hedge won.
    model: str | None = None
    #: Second calls that raced the first.
    hedges: int = 0
    tried: tuple[Tried, ...] = ()
    #: USD that the last attempt added to what the job has spent; `cost_usd` is that of all of them.
    spent_usd: float = 0.0

    def to_json(self) -> str:
        return json.dumps(
            {
                "in": self.usage.input_tokens,
                "out": self.usage.output_tokens,
                "usd": self.cost_usd,
                "latency_s": self.latency_s,
                "wait_s": self.queue_wait_s,
                "sim": self.simulated,
                "error": self.error,
                **({"cached": self.usage.cached_tokens} if self.usage.cached_tokens else {}),
                **({"reasoning": self.usage.reasoning_tokens} if self.usage.reasoning_tokens else {}),
                **({"hedges": self.hedges} if self.hedges else {}),
                **({"tried": [item.model_dump(mode="json") for item in self.tried]} if self.tried else {}),
            },
            separators=(",", ":"),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the end of a part was taken. `complete` says why the job can be joined now: all, spoilt or decided."""

    word: Literal["ended", "more", "complete", "final", "over", "stale", "gone"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands, for the sweeper: cheap to read, nothing in it is parsed."""

    state: str
    kind: str
    n: int | None
    left: int
    priority: str
    #: Unix seconds, or None.
    deadline_at: float | None


@dataclass(frozen=True, slots=True)
class Parked:
    """A part that is not running, for who would have it go elsewhere."""

    state: str
    #: The model it stands at, or waits for; None where it is bound to none.
    model: str | None
    decision: Decision
    tried: tuple[Tried, ...]
    #: How often it moved.
    moves: int
    #: Seconds since it was queued, or began to wait.
    waited_s: float


class Holder(NamedTuple):
    """Where a part stands. `state` is None where there is no such part."""

    state: str | None
    owner: str
    model: str | None
