"""The result of a job: its state, its output, and one `Part` for every section, vote or call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import Field, JsonValue

from tasks.contract.validation import Value

__all__ = ["Candidate", "Decision", "FINAL", "JobState", "Move", "Part", "PartState", "Result", "Tried", "Usage"]

JobState: TypeAlias = Literal[
    "accepted", "routed", "waiting", "running", "joining", "succeeded", "failed", "cancelled", "expired"
]


PartState: TypeAlias = Literal["waiting", "queued", "running", "succeeded", "failed", "skipped", "cancelled"]


#: A job enters exactly one of these, once.
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "expired"})


class Usage(Value):
    """Tokens as the provider counts them. Cached ones are among the input's, reasoning ones among the output's."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


class Candidate(Value):
    """One model that could do the job, and what the strategy made of it: the lowest score was preferred."""

    model: str
    score: float | None = None
    load: float | None = None
    #: Seconds that its calls took, peak-sensitive, and the share of its latest attempts that failed.
    latency_s: float | None = None
    errors: float = 0.0
    #: Why nobody was sent there: breaker, budget, paused, drained, dead.
    closed: str = ""
    #: It is asked only while all others are closed, or failed.
    fallback: bool = False
    #: Why it can't do the job: it was left out.
    reason: str = ""


class Decision(Value):
    """Why a job went where it went. `pointsman explain JOB` prints it."""

    route: str
    classifier: str
    confidence: float
    strategy: str
    model: str | None = None
    reason: str = ""
    #: The job that asked a model for the route, and what that cost in USD: part of what this job costs.
    asked: str | None = None
    asked_usd: float = 0.0
    candidates: tuple[Candidate, ...] = ()


class Tried(Value):
    """What one model did with a part. `error` is the code of its last failure, None where it answered."""

    model: str
    #: Times it was asked, but for those that it answered with its rate limit: these are `throttled`.
    attempts: int = 0
    throttled: int = 0
    error: str | None = None


class Move(Value):
    """A model that a part stood at in vain. `why`: what closed it, or ``deadline`` where its queue was too long."""

    model: str
    why: str


class Part(Value):
    """One call of a job. `attempts` counts the times a model was asked, lost ones included."""

    index: int
    state: PartState
    title: str = ""
    #: What it is for: "" for a section, a vote or a single call, ``plan`` where a model proposes the sections,
    #: ``join`` for what the join asks.
    role: str = ""
    #: The job that is its work, where it is no call of its own.
    job: str | None = None
    #: Hash of the prompt that it was asked with, before anything was filled in.
    prompt_version: str | None = None
    model: str | None = None
    simulated: bool = False
    output: str | None = None
    error: str | None = None
    attempts: int = 0
    #: Each model that was asked, in order.
    tried: tuple[Tried, ...] = ()
    #: Each model whose queue it left for another one's, in order.
    moved: tuple[Move, ...] = ()
    usage: Usage = Usage()
    cost_usd: float = 0.0
    queue_wait_s: float | None = None
    latency_s: float | None = None


class Result(Value):
    """What is known of a job now; the whole truth once `state` is final."""

    id: str
    state: JobState
    kind: str
    output: str | None = None
    error: str | None = None
    #: Set when any part was answered by a simulated model: its output proves nothing.
    simulated: bool = False
    cost_usd: float = 0.0
    usage: Usage = Usage()
    routing: Decision | None = None
    details: Mapping[str, JsonValue] = Field(default_factory=dict)
    labels: Mapping[str, str] = Field(default_factory=dict)
    accepted_at: float
    ended_at: float | None = None
    parts_total: int = 0
    parts_failed: int = 0
    parts: tuple[Part, ...] = ()

    @property
    def final(self) -> bool:
        return self.state in FINAL
