"""The result of a job: its state, its output, and one `Part` for every section, vote or call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import Field, JsonValue

from tasks.contract.validation import FrozenModel

JobState: TypeAlias = Literal[
    "accepted", "routed", "waiting", "running", "joining", "succeeded", "failed", "cancelled", "expired"
]


PartState: TypeAlias = Literal["waiting", "queued", "running", "succeeded", "failed", "skipped", "cancelled"]


#: A job enters exactly one of these, once.
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "expired"})


class Usage(FrozenModel):
    """Tokens as the provider counts them. Input tokens include cached ones, output tokens include reasoning.

    `estimated`: the provider sent no count that can be true for some of them, so they are estimated from the texts.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of a provider and what is left of them; None where the headers don't say. Resets are in seconds."""

    requests_limit: int | None = None
    requests_left: int | None = None
    requests_reset_s: float | None = None
    tokens_limit: int | None = None
    tokens_left: int | None = None
    tokens_reset_s: float | None = None


class Candidate(FrozenModel):
    """One model that could do the job, with its score by the strategy: the lowest score is preferred."""

    model: str
    score: float | None = None
    load: float | None = None
    #: Seconds that its calls took (peak EWMA), and the share of its latest attempts that failed.
    latency_s: float | None = None
    errors: float = 0.0
    #: Why no call is sent there: breaker, budget, paused, drained, dead.
    closed: str = ""
    #: It is used only while all others are closed, or failed.
    fallback: bool = False
    #: Why it can't do the job, where it was left out.
    reason: str = ""


class Decision(FrozenModel):
    """The routing of a job with its reasons. `pointsman explain JOB` prints it."""

    route: str
    classifier: str
    confidence: float
    strategy: str
    model: str | None = None
    reason: str = ""
    #: The job that asked a model for the route, and its cost in USD, which is part of the cost of this job.
    asked: str | None = None
    asked_usd: float = 0.0
    candidates: tuple[Candidate, ...] = ()


class Tried(FrozenModel):
    """The attempts of one model at a part. `error` is the code of its last failure, None where it answered."""

    model: str
    #: Attempts, except for those that the model's rate limit refused: these are `throttled`.
    attempts: int = 0
    throttled: int = 0
    error: str | None = None


class Move(FrozenModel):
    """A model whose queue a part left. `why`: what closed the model, or ``deadline`` where its queue was too long."""

    model: str
    why: str


class Part(FrozenModel):
    """One call of a job. `attempts` counts all attempts, also those of workers that were lost."""

    index: int
    state: PartState
    title: str = ""
    #: Its purpose: "" for a section, a vote or a single call, ``plan`` for a model that proposes the sections, ``join``
    #: for a question of the join.
    role: str = ""
    #: Its child job, where it is not a call of its own.
    job: str | None = None
    #: Hash of its prompt before variables were filled in.
    prompt_version: str | None = None
    model: str | None = None
    simulated: bool = False
    output: str | None = None
    #: Why the model ended: ``stop``, ``length`` (at its bound of tokens) or ``tool_calls``; None without an output.
    finish_reason: str | None = None
    #: The end of the output is missing: it was cut at a bound of tokens.
    truncated: bool = False
    #: The thoughts of the model, where the job asks for them (`reasoning`).
    reasoning: str | None = None
    error: str | None = None
    attempts: int = 0
    #: The models that were tried, in order.
    tried: tuple[Tried, ...] = ()
    #: The models whose queues it left, in order.
    moved: tuple[Move, ...] = ()
    usage: Usage = Usage()
    cost_usd: float = 0.0
    queue_wait_s: float | None = None
    latency_s: float | None = None


class Result(FrozenModel):
    """The state of a job now, and its outcome once `state` is final."""

    id: str
    state: JobState
    kind: str
    output: str | None = None
    #: ``length`` where `truncated`, else that of a single call's part, or ``stop``; None without an output.
    finish_reason: str | None = None
    #: A part whose text is in the output was cut at a bound of tokens; `details.truncated` names all such parts.
    truncated: bool = False
    error: str | None = None
    #: True when a simulated model answered any part: the output proves nothing.
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
