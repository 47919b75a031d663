"""What the tasks need of the outside, as Protocols. The worker binds the real ones to its Celery application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import JsonValue

from tasks.calling.hedge import Pace
from tasks.job import Message, Usage
from tasks.rate_limits import RateLimits

if TYPE_CHECKING:
    import asyncio

    from celery import Celery

    from tasks.classify.cascade import Cascade
    from tasks.config import Config
    from tasks.ledger import CallId, Ledger
    from tasks.ledger.limits import Grant
    from tasks.queue.publish import Publisher
    from tasks.routing.predicting import Predictor
    from tasks.telemetry import Hook

__all__ = [
    "Cascades",
    "Held",
    "Leases",
    "ModelClient",
    "ModelClients",
    "ModelReply",
    "ModelRequest",
    "Ports",
    "ports_of",
]


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


@dataclass(frozen=True, slots=True)
class ModelReply:
    text: str
    usage: Usage
    #: In OpenAI's words, whoever answered: stop, length, content_filter, tool_calls.
    finish_reason: str = "stop"
    #: The server itself says that no model was asked.
    simulated: bool = False
    rate_limits: RateLimits | None = None
    #: Seconds from sending to the first byte of the answer.
    first_byte_s: float | None = None


class ModelClient(Protocol):
    """One provider's API."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The model's whole answer, within the request's timeouts: nobody else watches the clock.

        Raises:
            ModelError: of the type that says whether the call may be tried again; no other error.
        """
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[str | ModelReply]:
        """The pieces of the answer's text as they come; the last item is the whole reply.

        Raises:
            ModelError: as `complete` does. Leaving the iterator closes the provider's connection.
        """
        ...


class ModelClients(Protocol):
    def of(self, model: str) -> ModelClient:
        """The client of a model of the configuration."""
        ...


class Held(Protocol):
    """A running call, as the process that runs it sees it."""

    #: Its job was cancelled, and so was the call.
    cancelled: bool


class Leases(Protocol):
    """Keeps this process's running calls alive in the ledger, and cancels those whose job was cancelled."""

    def new_owner(self) -> str:
        """A name for one claim, unlike any other in the fleet."""
        ...

    def holding(
        self, call: CallId, model: str, running: asyncio.Future[Any], grants: Sequence[Grant] = ()
    ) -> AbstractContextManager[Held]:
        """While entered, the call's lease and its `grants` are renewed; `running` is cancelled when the job is.

        `grants` may grow meanwhile.
        """
        ...


class Cascades(Protocol):
    def __call__(self, routes: tuple[str, ...] | None = None) -> Awaitable[Cascade]:
        """The classifiers that tell `routes` apart, by default those that every job may fall into.

        They are fitted off the event loop when they are first asked for, and kept.

        Raises:
            PointsmanError: why they can't be fitted; the next to ask has it tried again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    config: Config
    ledger: Ledger
    publisher: Publisher
    #: Only routers need them.
    cascade: Cascades
    clients: ModelClients
    leases: Leases
    #: What was learned from the configuration's outcomes, as `cascade`; None where it names none.
    predictor: Callable[[], Awaitable[Predictor | None]]
    #: Is told of every attempt at a model.
    hook: Hook
    #: What this process knows of how long its models take.
    pace: Pace = field(default_factory=Pace)


def ports_of(app: Celery) -> Ports:
    """What was bound to this application.

    Raises:
        RuntimeError: in a process that is no worker of Pointsman.
    """
    bind = getattr(app, "pointsman_ports", None)
    if bind is None:
        raise RuntimeError("no ports are bound: start workers with celery -A worker worker")
    return cast(Ports, bind())
