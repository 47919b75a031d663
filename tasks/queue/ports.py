"""What the tasks need of the outside, as Protocols. The worker binds the real ones to its Celery application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from tasks.routing.latency_statistics import LatencyStatistics

if TYPE_CHECKING:
    import asyncio

    from celery import Celery

    from tasks.config.config import Config
    from tasks.contract.ids import CallId
    from tasks.contract.model_client import ModelClients
    from tasks.contract.telemetry import Hook
    from tasks.ledger import Ledger
    from tasks.ledger.limiter import Grant
    from tasks.queue.publisher import Publisher
    from tasks.routing.classify.cascade import Cascade
    from tasks.routing.predicting import Predictor

__all__ = [
    "Cascades",
    "LeasedCall",
    "Leases",
    "Ports",
    "ports_of",
]


class LeasedCall(Protocol):
    """A running call, as the process that runs it sees it."""

    #: Its job was cancelled, and so was the call.
    cancelled: bool


class Leases(Protocol):
    """Keeps this process's running calls alive in the ledger, and cancels those whose job was cancelled."""

    def new_owner(self) -> str:
        """A name for one claim, unlike any other in the fleet."""
        ...

    def keep(
        self, call: CallId, model: str, running: asyncio.Future[Any], grants: Sequence[Grant] = ()
    ) -> AbstractContextManager[LeasedCall]:
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
    #: Of the models, in this process.
    latencies: LatencyStatistics = field(default_factory=LatencyStatistics)


def ports_of(app: Celery) -> Ports:
    """What was bound to this application.

    Raises:
        RuntimeError: in a process that is no worker of Pointsman.
    """
    bind = getattr(app, "pointsman_ports", None)
    if bind is None:
        raise RuntimeError("no ports are bound: start workers with celery -A worker worker")
    return cast(Ports, bind())
