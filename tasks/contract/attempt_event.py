"""The event of an ended attempt, and the hook that consumes it. It holds no prompt, output or key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from tasks.contract.result import Usage

__all__ = ["AttemptEvent", "Hook"]


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """One HTTP request to a model, ended. Times are in seconds, costs in USD."""

    job: str
    index: int
    #: 1 for the first, counted over all models that were tried.
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
    #: `tasks.contract.errors.ModelError.code` of a failed attempt.
    error: str | None = None
    status: int | None = None
    #: Seconds from now to the next attempt; None if there is none.
    retry_in_s: float | None = None
    #: A second attempt that raced the first.
    hedge: bool = False
    #: The attempt that a half-open breaker let through.
    probe: bool = False


class Hook(Protocol):
    """Consumes attempts, for logging or metrics. Called on the event loop: it must not block."""

    def attempt(self, event: AttemptEvent) -> None: ...
