"""This process's sign of life: the models it serves, its running calls, and their cancellation."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from tasks.contract.errors import PointsmanError
from tasks.contract.ids import CallId
from tasks.ledger import LEASE, Admitted, Ledger
from tasks.ledger.limiter import Grant
from tasks.ledger.store import Words

__all__ = ["Heartbeat"]

log = structlog.get_logger(__name__)

#: Seconds for saying good-bye: a process that ends must not wait for a Redis that is away.
FAREWELL = 1.0
#: Seconds between two renewals: several fit into a lease, so that one lost round trip costs nothing.
BEAT = 1.0
#: Seconds between two looks at the jobs that were cancelled: their calls end within a second, messages included.
LOOK = 0.3


@dataclass(eq=False, slots=True)
class RunningCall:
    name: CallId
    model: str
    future: asyncio.Future[Any]
    #: What its attempts took of the limits: one, or two that race.
    grants: Sequence[Grant] = ()
    cancelled: bool = field(default=False)


class Heartbeat:
    """`tasks.queue.ports.Leases` on one event loop; costs some round trips a second for any number of calls."""

    def __init__(
        self, ledger: Ledger, *, sign: Path | None = None, serving: Callable[[], Collection[str]] = tuple
    ) -> None:
        """`sign` is a file whose time each beat renews, once it is there: by it others see that the loop lives.

        `serving` are the models whose queues this process consumes at the moment.
        """
        self._ledger = ledger
        self._sign = sign
        self._serving = serving
        self._told: frozenset[str] = frozenset()
        self._running: set[RunningCall] = set()
        self._process = secrets.token_hex(6)
        self._claims = itertools.count()

    def new_owner(self) -> str:
        return f"{self._process}:{next(self._claims)}"

    @property
    def count(self) -> int:
        """Calls in flight in this process."""
        return len(self._running)

    @contextmanager
    def keep(
        self, call: CallId, model: str, running: asyncio.Future[Any], grants: Sequence[Grant] = ()
    ) -> Iterator[RunningCall]:
        held = RunningCall(call, model, running, grants)
        self._running.add(held)
        try:
            yield held
        finally:
            self._running.discard(held)

    async def beat_forever(self) -> None:
        """Tell the models and renew all leases once a `BEAT`. A Redis that is away is asked again at the next."""
        while True:
            try:
                await self.beat()
            except PointsmanError as error:
                log.warning("heartbeat.missed", problem=str(error), calls=len(self._running))
            if self._sign is not None and self._sign.exists():
                self._sign.touch()
            await asyncio.sleep(BEAT)

    def _presence(self) -> list[Words]:
        """What tells the fleet the models that are served here, and those that no longer are."""
        models = frozenset(self._serving())
        left, self._told = self._told - models, models
        return [self._ledger.fleet.serve_command(self._process, sorted(models), sorted(left))] if models or left else []

    async def leave(self) -> None:
        """Take back that models are served here: the process ends."""
        self._serving = tuple
        try:
            async with asyncio.timeout(FAREWELL):
                await self._ledger.store.run(*self._presence())
        except (PointsmanError, TimeoutError) as error:
            log.warning("heartbeat.no_farewell", problem=str(error))

    async def beat(self) -> None:
        presence = self._presence()
        if not self._running:
            if presence:
                await self._ledger.store.run(*presence)
            return
        by_model: dict[str, list[CallId]] = {}
        running = list(self._running)
        for held in running:
            by_model.setdefault(held.model, []).append(held.name)
        fleet, limiter = self._ledger.fleet, self._ledger.limiter
        grants = [grant for held in running for grant in held.grants]
        await self._ledger.store.run(
            *presence, *fleet.lease_commands(by_model, seconds=LEASE), *limiter.renew_commands(grants)
        )
        # A call that ended while its renewal was on the way may have got the lease back that it had returned.
        gone = [held for held in running if held not in self._running]
        returned = limiter.forget_commands(grant for held in gone for grant in held.grants)
        if returned:
            await self._ledger.store.run(*returned)
        await fleet.forget([Admitted(held.name, held.model) for held in gone])

    async def heed_forever(self) -> None:
        """Cancel the running calls of cancelled jobs, a fraction of a second later."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self.heed()
            except PointsmanError:
                continue  # the heartbeat tells that Redis is away

    async def heed(self) -> None:
        if not self._running:
            return
        cancelled = await self._ledger.fleet.cancelled()
        for held in [held for held in self._running if held.name.job in cancelled]:
            held.cancelled = True
            held.future.cancel()
