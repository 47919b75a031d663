"""One event object per attempt at a model, and who may consume it. No prompt, output or key is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from tasks.contract.result import Usage

__all__ = ["AttemptEvent", "Hook"]


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """One HTTP call to a model, ended. Times are seconds, costs USD."""

    job: str
    index: int
    #: 1 for the first, over all models that were tried.
    number: int
    model: str
    provider: str
    route: str
    outcome: Literal["succeeded", "failed", "cancelled"]
    latency_s: float
    queue_wait_s: float
    first_byte_s: float | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    finish_reason: str | None = None
    #: `tasks.contract.errors.ModelError.code`, where it failed.
    error: str | None = None
    status: int | None = None
    #: When it is tried again: seconds from now; None where it is not.
    retry_in_s: float | None = None
    #: A second call that raced the first, or the one that a half-open breaker let through.
    hedge: bool = False
    probe: bool = False


class Hook(Protocol):
    """Consumes attempts: logging, metrics. Called on the event loop: it must not block."""

    def attempt(self, event: AttemptEvent) -> None: ...
