"""Binds the real ports to the Celery application: they live on the one event loop of the process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tasks.ledger import Ledger
from tasks.ports import Ports
from tasks.queue.publish import Publisher
from worker.garbage import collect_forever
from worker.lag import measure_lag
from worker.leases import Heartbeat
from worker.loop import STOP_TIMEOUT, event_loop
from worker.models import Clients
from worker.sweeper import Sweeper
from worker.telemetry import AttemptLog, Hooks, Metrics, logs_everything, serve_metrics

if TYPE_CHECKING:
    from celery import Celery

    from tasks.classify.cascade import Cascade
    from tasks.config import Config

__all__ = ["Runtime"]

log = structlog.get_logger(__name__)


class Runtime:
    """The loop's thread, the connections that belong to it, and the two duties that run on it all the time."""

    def __init__(self, app: Celery, config: Config, redis: str) -> None:
        self._app = app
        self._config = config
        self._redis = redis
        self._loop = event_loop()
        self._duties: list[asyncio.Task[None]] = []
        self._fitted: Cascade | None = None
        self.ports = self._loop.run(self._bind())

    @property
    def is_ours(self) -> bool:
        """Whether this process made it; a forked child needs one of its own."""
        return self._loop.is_ours

    async def _bind(self) -> Ports:
        self._ledger = Ledger(self._redis, tuple(self._config.models))
        self._clients = Clients(self._config)
        sign = os.environ.get("POINTSMAN_READY_FILE")
        self._heartbeat = Heartbeat(self._ledger, sign=Path(sign) if sign else None)
        publisher = Publisher(self._ledger.store, self._app)
        await self._ledger.fleet.configure({name: model.capacity for name, model in self._config.models.items()})
        await self._ledger.limits.configure(self._config)
        metrics = Metrics(self._config.models, in_flight=lambda: self._heartbeat.count)
        self._end_metrics = serve_metrics(metrics)
        duties = [
            self._heartbeat.beat_forever(),
            Sweeper(self._ledger, publisher).sweep_forever(),
            collect_forever(),
        ]
        if lag_file := os.environ.get("POINTSMAN_LAG_FILE"):
            duties.append(measure_lag(Path(lag_file)))
        for duty in duties:
            task = asyncio.ensure_future(duty)
            task.add_done_callback(_end_process_on_error)
            self._duties.append(task)
        return Ports(
            config=self._config,
            ledger=self._ledger,
            publisher=publisher,
            cascade=self._cascade,
            clients=self._clients,
            leases=self._heartbeat,
            hook=Hooks((AttemptLog(everything=logs_everything()), metrics)),
        )

    def _cascade(self) -> Cascade:
        if self._fitted is None:
            # Imported here: it brings numpy, which the workers of models never need.
            from tasks.classify.build import build_cascade  # noqa: PLC0415

            self._fitted = build_cascade(self._config)
        return self._fitted

    def close(self) -> None:
        """End the duties and close the connections. Calls that still run are left to the sweeper."""
        self._loop.run(self._unbind())
        self._loop.close()

    async def _unbind(self) -> None:
        for duty in self._duties:
            duty.cancel()
        await asyncio.wait(self._duties, timeout=STOP_TIMEOUT)
        self._end_metrics()
        await self._clients.close()
        await self._ledger.close()


def _end_process_on_error(task: asyncio.Task[None]) -> None:
    """A worker without heartbeat would run calls that count as lost: better none than that one."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("duty.died", exc_info=task.exception())
        os._exit(70)
