"""The port to providers: a request, its reply, the client that exchanges them, and the event of an ended attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import JsonValue

from tasks.contract.job_fields import Message
from tasks.contract.result import RateLimits, Usage


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One attempt at a model. `model` is the provider's name for it, `timeout` the seconds it may take in all."""

    model: str
    messages: Sequence[Message]
    timeout: float
    #: Seconds until the first byte of the answer must be there; None leaves it to `timeout`.
    first_byte_timeout: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    #: JSON Schema that the answer must satisfy; the client asks for it in the provider's own way.
    response_schema: Mapping[str, JsonValue] | None = None
    #: JSON Schema of the value that the answer states, such as a choice or a score. It is asked for where the model can
    #: take it, and the text of the reply is then the plain value; a free text that came instead is as good.
    answer_form: Mapping[str, JsonValue] | None = None
    #: The parameters that the job itself sets: a model that refuses one can't do the job.
    insists: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelReply:
    """An answer that ended well: every other ending is a `ModelError`. `text` is not blank and holds no thoughts."""

    text: str
    usage: Usage
    #: ``stop``, or ``length`` where the answer was cut at its limit of tokens.
    finish_reason: str = "stop"
    #: The model's thoughts, from the provider's own field for them or from marks in the text.
    reasoning: str = ""
    #: The server states that it simulates the model.
    simulated: bool = False
    rate_limits: RateLimits | None = None
    #: Seconds from sending to the first byte of the answer.
    first_byte_s: float | None = None

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut at its bound of tokens."""
        return self.finish_reason == "length"


class ModelClient(Protocol):
    """One provider's API."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the model's whole answer within the timeouts of the request, which the client alone enforces.

        Raises:
            ModelError: its type says whether the call may be tried again. No other error is raised.
        """
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """Yield the answer's text in pieces as they arrive, and last the whole reply.

        Thoughts that stand in the text between marks are in the pieces, and not in the text of the reply.

        Raises:
            ModelError: as `complete` does. Leaving the iterator closes the provider's connection.
        """
        ...


class ModelClients(Protocol):
    def of(self, model: str) -> ModelClient:
        """The client of a model of the configuration."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """One HTTP request to a model, ended. It holds no prompt, output or key. Times are in seconds, costs in USD."""

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
