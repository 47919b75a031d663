"""What the tasks need of their process, as Protocols. The worker binds implementations to its Celery application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.config.config import Config
from tasks.contract.job import CallId
from tasks.contract.model_client import Hook, ModelClients
from tasks.ledger import Ledger
from tasks.ledger.limiter import Grant
from tasks.queue.publisher import Publisher
from tasks.routing.classify.cascade import Cascade
from tasks.routing.model_statistics import LatencyStatistics
from tasks.routing.predicting import PredictorSource


class LeasedCall(Protocol):
    """A call that runs in this process."""

    #: Whether the call was cancelled because its job was.
    cancelled: bool


class Leases(Protocol):
    """Renews the leases of this process's running calls, and cancels the calls of cancelled jobs."""

    def new_owner(self) -> str:
        """A name for one claim, unlike any other in the fleet."""
        ...

    def keep(
        self, call: CallId, model: str, running: asyncio.Future[Any], grants: Sequence[Grant] = ()
    ) -> AbstractContextManager[LeasedCall]:
        """While the context is entered, renew the leases of the call and of `grants`, which may grow meanwhile.

        `running` is cancelled when the job is.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    config: Config
    ledger: Ledger
    publisher: Publisher
    #: For routers alone: the classifiers for these routes, by default for those that every job may be classified into.
    cascade: Callable[[tuple[str, ...] | None], Awaitable[Cascade]]
    clients: ModelClients
    leases: Leases
    predictor: PredictorSource
    #: Receives every attempt at a model.
    hook: Hook
    latencies: LatencyStatistics = field(default_factory=LatencyStatistics)
