"""What the job ledger reads and writes, as values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.contract.job import CallId, Job
from tasks.contract.result import Decision, Tried, Usage
from tasks.ledger.fleet import WAVE
from tasks.parallel.early_stop import StopRule
from tasks.parallel.part_spec import PartSpec


@dataclass(frozen=True, slots=True)
class Kept:
    """What the answers that were cut have left of a part until it ends."""

    #: The answer so far, where it is continued, with the thoughts, and how often it was.
    text: str = ""
    reasoning: str = ""
    continued: int = 0
    #: By model: the highest bound in tokens at which it was cut in vain; 0 where none was sent.
    cut_at: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A part that its owner may run until the lease lapses, with everything that the run needs."""

    attempt: int
    part: PartSpec
    job: Job
    decision: Decision
    queue_wait_s: float
    #: Seconds left until the job's deadline, or None.
    time_left_s: float | None
    #: Every model that was asked for this part before.
    tried: tuple[Tried, ...] = ()
    #: Seconds since the part's first attempt began.
    trying_s: float = 0.0
    #: Tokens of its earlier attempts.
    used: Usage = field(default_factory=Usage)
    kept: Kept = field(default_factory=Kept)
    #: The index of the job's first section or vote, and how many there are.
    first: int = 0
    total: int = 1

    @property
    def retry_left_s(self) -> float | None:
        """Seconds within which another attempt may start, or None."""
        return None if self.job.retry_seconds is None else self.job.retry_seconds - self.trying_s


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What a run or a child job reports of a part besides its output; `write_record` is what the ledger keeps of it."""

    #: Tokens of all attempts.
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None
    #: The thoughts of the model, as far as the job keeps them.
    reasoning: str = ""
    cost_usd: float = 0.0
    latency_s: float | None = None
    queue_wait_s: float | None = None
    simulated: bool = False
    error: str | None = None
    #: The model that answered, where that is not the claimed one: a hedge won.
    model: str | None = None
    #: Second calls that raced the first.
    hedges: int = 0
    #: Hash of the prompt.
    prompt: str | None = None
    tried: tuple[Tried, ...] = ()
    #: USD that the last attempt added to what the job has spent; `cost_usd` is that of all of them.
    spent_usd: float = 0.0
    #: The digest of the ballot that a vote casts, "" for none, and its weight.
    ballot: str = ""
    weight: float = 1.0
    #: The part has nothing to do, or its failure does not matter.
    skipped: bool = False
    #: The child job that was to be its work does not exist.
    never_created: bool = False
    #: No model was asked: waiting for a limit is no attempt.
    unasked: bool = False


class BookReply(NamedTuple):
    """Whether the budget of a job allows a call.

    ``ok``; ``broke``: `figure` USD are not spent, which is too little; ``wait``: other calls have booked too much, and
    `figure` parts have not ended; ``stale``: the part belongs to another owner.
    """

    word: str
    figure: float = 0.0


class FinishReply(NamedTuple):
    """What follows from the end of a part.

    ``ended``: the job has, too. ``complete``: the job can be joined, and `detail` says why (all, spoilt, decided).
    ``more``: other parts go on. ``final``, ``over``, ``stale``, ``gone``: nothing, the part or the job ended before,
    another owner has the part, or there is no such part.
    """

    word: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """Where a job stands: cheap to read, since no text is read or parsed."""

    state: str
    kind: str
    n: int | None
    left: int
    priority: str
    #: Unix seconds, or None.
    deadline_at: float | None
    #: How many of its parts were sent, and the first part of each wave.
    sent: int = 0
    starts: tuple[int, ...] = ()
    #: Whether parts of it have child jobs.
    has_children: bool = False
    #: The parent's part that this child job does, as `CallId` is written.
    parent: str | None = None

    def call(self, job_id: str, index: int) -> CallId:
        """The name of a part's call."""
        return CallId(job_id, index, wave_at(self.starts, index))

    def calls(self, job_id: str) -> list[CallId]:
        """The names of all its calls, whether they were sent or not."""
        if self.kind == "single":
            return [CallId(job_id, 0)]
        return [self.call(job_id, index) for index in range(self.n or 0)]


@dataclass(frozen=True, slots=True)
class MovablePart:
    """A part that is queued or waits, and what choosing another model for it takes."""

    state: str
    #: The model that it is queued at, or waits for; None where it waits for no particular one.
    model: str | None
    decision: Decision
    tried: tuple[Tried, ...]
    #: How often it moved.
    moves: int
    #: Seconds since it was queued or began to wait.
    waited_s: float
    #: The models that may do it; empty: the decision's candidates.
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartStatus:
    """Where a part stands. `state` is "" where there is no such part."""

    index: int
    state: str
    #: The model that it stands at, runs on or ran on; "" where none is chosen.
    model: str = ""
    #: Its child job, "" for a call.
    job: str = ""
    #: Who runs it: the worker's claim, or the child job.
    owner: str = ""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Parts that are planned together, from index `first` on."""

    parts: Sequence[PartSpec]
    first: int = 0
    #: "" for sections and votes, ``plan``, or ``join``.
    role: str = ""
    #: How many of them are sent at first.
    wave: int = WAVE
    #: When a vote is decided before all parts have ended.
    stopping: StopRule | None = None

    @property
    def whole(self) -> bool:
        """The sections hold all of the job's input, which is not kept twice."""
        return not self.role and all(part.text is not None for part in self.parts)

    def first_wave(self, count: int) -> list[PartStatus]:
        """The `count` parts of the first wave, as they stand once it is sent."""
        return [
            PartStatus(
                index,
                "failed" if part.error else "running" if part.job else "queued",
                part.model,
                part.job,
                part.job,
            )
            for index, part in enumerate(self.parts[:count], start=self.first)
        ]


@dataclass(frozen=True, slots=True)
class Stage:
    """Parts that were planned together. `role` is "" for sections and votes, ``plan``, or ``join``."""

    role: str
    first: int
    count: int


class JoinReply(NamedTuple):
    """Whether a job may be joined now.

    ``go``: the caller joins it. ``wait``: parts are missing; `left` of `n` have not ended, `sent` were sent in `waves`.
    ``busy``: another process joins it. ``done``, ``gone``, ``poison``: it has ended, there is none, or its join was
    started too often.
    """

    word: str
    left: int = 0
    n: int = 0
    sent: int = 0
    waves: int = 0

    @property
    def wave_ended(self) -> bool:
        """Every part that was sent has ended, and others were not sent."""
        return self.word == "wait" and self.left == self.n - self.sent > 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job with parts has come."""

    n: int
    left: int
    sent: int
    #: The index of its first section or vote.
    base: int
    #: Empty where sections or votes are its only parts.
    stages: tuple[Stage, ...]
    starts: tuple[int, ...]


def wave_at(starts: Sequence[int], index: int) -> int:
    """The number of the wave that a part belongs to, or will belong to."""
    return max(0, bisect_right(starts, index) - 1)
