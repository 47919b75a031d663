"""The heartbeat of a worker process: presence of its models, leases of its running calls, and their cancellation."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tasks.contract.errors import PointsmanError
from tasks.contract.job import CallId
from tasks.ledger import LEASE, Admitted, Ledger
from tasks.ledger.limiter import Grant
from tasks.ledger.store import Command

log = structlog.get_logger(__name__)

#: Seconds for signing off: a process that ends must not wait for a Redis that is away.
LEAVE_TIMEOUT = 1.0
#: Seconds between two renewals: several fit into a lease, so one lost round trip costs nothing.
BEAT = 1.0
#: Seconds between two looks at the cancelled jobs: their calls end within a second, messages included.
CANCEL_INTERVAL = 0.3


@dataclass(eq=False, slots=True)
class RunningCall:
    name: CallId
    model: str
    future: asyncio.Future[Any]
    #: Of its attempts: one, or two that race.
    grants: Sequence[Grant] = ()
    cancelled: bool = False


class Heartbeat:
    """`tasks.queue.ports.Leases` on one event loop; costs some round trips a second for any number of calls."""

    def __init__(
        self, ledger: Ledger, *, health_file: Path | None = None, serving: Callable[[], Collection[str]] = tuple
    ) -> None:
        """`health_file`, once it exists, gets a new time at each beat: it shows that the loop is alive.

        `serving` returns the models whose queues this process consumes at the moment.
        """
        self._ledger = ledger
        self._health_file = health_file
        self._serving = serving
        self._reported: frozenset[str] = frozenset()
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
        kept = RunningCall(call, model, running, grants)
        self._running.add(kept)
        try:
            yield kept
        finally:
            self._running.discard(kept)

    async def beat_forever(self) -> None:
        """Report the models and renew all leases once a `BEAT`. While Redis is away every beat tries again."""
        while True:
            try:
                await self.beat()
            except PointsmanError as error:
                log.warning("heartbeat.missed", problem=str(error), calls=len(self._running))
            if self._health_file is not None and self._health_file.exists():
                self._health_file.touch()
            await asyncio.sleep(BEAT)

    def _presence(self) -> list[Command[None]]:
        """The command that reports which models this process serves, and which it no longer does."""
        models = frozenset(self._serving())
        left, self._reported = self._reported - models, models
        return [self._ledger.fleet.serve(self._process, sorted(models), sorted(left))] if models or left else []

    async def leave(self) -> None:
        """Report that this process serves no models any more: it ends."""
        self._serving = tuple
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._ledger.store.run(*self._presence())
        except (PointsmanError, TimeoutError) as error:
            log.warning("heartbeat.not_signed_off", problem=str(error))

    async def beat(self) -> None:
        presence = self._presence()
        if not self._running:
            await self._ledger.store.run(*presence)
            return
        by_model: dict[str, list[CallId]] = {}
        running = list(self._running)
        for call in running:
            by_model.setdefault(call.model, []).append(call.name)
        fleet, limiter = self._ledger.fleet, self._ledger.limiter
        grants = [grant for call in running for grant in call.grants]
        await self._ledger.store.run(*presence, *fleet.lease(by_model, seconds=LEASE), *limiter.renew(grants))
        # A call that ended during this round trip has released its leases; a late renewal may have brought them back.
        ended = [call for call in running if call not in self._running]
        await self._ledger.store.run(
            *limiter.forget(grant for call in ended for grant in call.grants),
            *fleet.forget([Admitted(call.name, call.model) for call in ended]),
        )

    async def cancel_forever(self) -> None:
        """Cancel the running calls of cancelled jobs, a fraction of a second later."""
        while True:
            await asyncio.sleep(CANCEL_INTERVAL)
            try:
                cancelled = await self._ledger.fleet.cancelled() if self._running else ()
            except PointsmanError:
                continue  # the heartbeat logs that Redis is away
            for call in [call for call in self._running if call.name.job in cancelled]:
                call.cancelled = True
                call.future.cancel()
