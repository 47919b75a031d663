"""What the tasks need of the outside, as Protocols. The worker binds the real ones to its Celery application."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from tasks.job import Message, Usage

if TYPE_CHECKING:
    import asyncio

    from celery import Celery

    from tasks.classify.cascade import Cascade
    from tasks.config import Config
    from tasks.ledger import CallId, Ledger
    from tasks.queue.publish import Publisher

__all__ = ["Held", "Leases", "ModelClient", "ModelClients", "ModelReply", "ModelRequest", "Ports", "Runner", "ports_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One attempt at a model. `model` is the provider's name for it, `timeout` the seconds it may take in all."""

    model: str
    messages: Sequence[Message]
    timeout: float
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelReply:
    text: str
    usage: Usage
    finish_reason: str = "stop"
    #: The server itself says that no model was asked.
    simulated: bool = False


class ModelClient(Protocol):
    """One provider's API."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The model's answer.

        Raises:
            ModelError: of the type that says whether the call may be tried again.
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

    def holding(self, call: CallId, model: str, running: asyncio.Future[Any]) -> AbstractContextManager[Held]:
        """While entered, the call's lease is renewed; `running` is cancelled when the job is."""
        ...


class Runner(Protocol):
    """The way from a Celery task, which blocks a thread, to the one event loop of its process."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop and wait for its end. Never call this on the loop's own thread."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    config: Config
    ledger: Ledger
    publisher: Publisher
    #: Fits the classifiers at its first call; only routers need them.
    cascade: Callable[[], Cascade]
    clients: ModelClients
    leases: Leases
    run: Runner


def ports_of(app: Celery) -> Ports:
    """What was bound to this application.

    Raises:
        RuntimeError: in a process that is no worker of Pointsman.
    """
    bind = getattr(app, "pointsman_ports", None)
    if bind is None:
        raise RuntimeError("no ports are bound: start workers with celery -A worker worker")
    return cast(Ports, bind())
