"""Creates the objects behind the tasks' ports: they live on the one event loop of the process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tasks.ledger import Ledger
from tasks.queue.ports import Ports
from tasks.queue.publisher import Publisher
from worker.fitting import LazyCascades, LazyFit, fit_cascade, fit_predictor
from worker.gc_tuning import collect_garbage_forever
from worker.leases import Heartbeat
from worker.loop import EX_SOFTWARE, STOP_TIMEOUT, event_loop
from worker.loop_lag import measure_loop_lag
from worker.metrics import Metrics, serve_metrics
from worker.models import Clients
from worker.rebalancer import Rebalancer
from worker.sweeper import Sweeper
from worker.telemetry import AttemptLog, Hooks, logs_all_attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celery import Celery

    from tasks.config.config import Config

__all__ = ["Runtime"]

log = structlog.get_logger(__name__)


class Runtime:
    """The event loop of a worker process, its connections, and the background tasks that run as long as it does."""

    def __init__(self, app: Celery, config: Config, redis: str, *, serving: Callable[[], Collection[str]]) -> None:
        """`serving` returns the models whose queues this process consumes now."""
        self._app = app
        self._config = config
        self._redis = redis
        self._serving = serving
        self._loop = event_loop()
        self._background: list[asyncio.Task[None]] = []
        # Fitted at the first call: only routers need them.
        self._cascade = LazyCascades(lambda routes: fit_cascade(config, routes))
        self._predictor = LazyFit(lambda: fit_predictor(config))
        self.ports = self._loop.run(self._bind())

    @property
    def is_ours(self) -> bool:
        """Whether this process made it; a forked child needs one of its own."""
        return self._loop.is_ours

    async def _bind(self) -> Ports:
        self._ledger = Ledger(self._redis, tuple(self._config.models))
        self._clients = Clients(self._config)
        health_file = os.environ.get("POINTSMAN_READY_FILE")
        self._heartbeat = Heartbeat(
            self._ledger, health_file=Path(health_file) if health_file else None, serving=self._serving
        )
        publisher = Publisher(self._ledger.store, self._app)
        await self._ledger.fleet.configure({name: model.capacity for name, model in self._config.models.items()})
        await self._ledger.limiter.configure(self._config)
        metrics = Metrics(self._config.models, in_flight=lambda: self._heartbeat.count)
        self._stop_metrics = serve_metrics(metrics)
        loops = [
            self._heartbeat.beat_forever(),
            self._heartbeat.cancel_forever(),
            Sweeper(self._ledger, publisher, Rebalancer(self._ledger, self._config)).sweep_forever(),
            collect_garbage_forever(),
        ]
        if lag_file := os.environ.get("POINTSMAN_LAG_FILE"):
            loops.append(measure_loop_lag(Path(lag_file)))
        for loop in loops:
            task = asyncio.ensure_future(loop)
            task.add_done_callback(_end_process_on_error)
            self._background.append(task)
        return Ports(
            config=self._config,
            ledger=self._ledger,
            publisher=publisher,
            cascade=self._cascade,
            predictor=self._predictor,
            clients=self._clients,
            leases=self._heartbeat,
            hook=Hooks((AttemptLog(all_attempts=logs_all_attempts()), metrics)),
        )

    def fit(self) -> None:
        """Fit the classifiers and the predictor now, before a job waits for them.

        Raises:
            PointsmanError: if they can't be fitted, with the reason.
        """
        self._loop.run(self._cascade())
        self._loop.run(self._predictor())

    def close(self) -> None:
        """End the background tasks and close the connections. The sweeper recovers calls that still run."""
        self._loop.run(self._unbind())
        self._loop.close()

    async def _unbind(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.wait(self._background, timeout=STOP_TIMEOUT)
        await self._heartbeat.leave()
        self._stop_metrics()
        await self._clients.close()
        await self._ledger.close()


def _end_process_on_error(task: asyncio.Task[None]) -> None:
    """End the process when a background task fails: without heartbeat its calls would count as lost while they run."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("background_task.died", exc_info=task.exception())
        os._exit(EX_SOFTWARE)
