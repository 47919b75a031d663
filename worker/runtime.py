"""Creates the objects behind the tasks' ports: they live on the one event loop of the process.

The collection of garbage must not stop that loop. By default Python scans all objects whenever enough new ones have
outlived two collections. With 2,000 calls in flight, a million objects, that is a pause of 80 to 170 ms, several times
a second under load (measured). Here young objects are collected as usual, and all objects once a minute.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Collection, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from celery import Celery

from tasks.config.config import Config
from tasks.ledger import Ledger
from tasks.queue.address import state_dir
from tasks.queue.ports import Ports
from tasks.queue.publisher import Publisher
from tasks.routing.classify.cascade import Cascade
from tasks.routing.predicting import Predictor
from worker.leases import Heartbeat
from worker.loop import EX_SOFTWARE, STOP_TIMEOUT, event_loop, measure_loop_lag
from worker.models import Clients
from worker.rebalancer import Rebalancer
from worker.sweeper import Sweeper
from worker.telemetry import AttemptLog, Hooks, Metrics, logs_all_attempts, serve_metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: The threshold of each generation: new objects before a young collection, young collections before a middle one, and
#: middle ones before Python itself starts a full one, which is never.
THRESHOLDS = (10_000, 20, 1_000_000)
#: Seconds between two full collections.
FULL_COLLECTION_EVERY = 60.0
#: Choices of routes whose classifiers are kept: those of all workflows, and more. Each may have some 30 MB.
MOST_CHOICES = 32


class LazyFit(Generic[T]):
    """Fits once, in a thread, at the first call; concurrent callers share the result."""

    def __init__(self, fit: Callable[[], T]) -> None:
        self._fit = fit
        self._fitting: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        """Return the result.

        Raises:
            PointsmanError: if it can't be fitted; the next call tries again.
        """
        if self._fitting is None:
            self._fitting = asyncio.ensure_future(asyncio.to_thread(self._fit))
        fitting = self._fitting
        try:
            # A caller may be cancelled, the others wait on.
            return await asyncio.shield(fitting)
        except Exception:
            if self._fitting is fitting and fitting.done():
                self._fitting = None
            raise


class LazyCascades:
    """The classifiers of a configuration: those of all routes, and those of each choice of routes that a job names."""

    def __init__(self, fit: Callable[[tuple[str, ...] | None], Cascade]) -> None:
        self._all = LazyFit(lambda: fit(None))
        self._of = lru_cache(MOST_CHOICES)(lambda choice: LazyFit(lambda: fit(choice)))

    async def __call__(self, routes: tuple[str, ...] | None = None) -> Cascade:
        """Return the classifiers of `routes`; raises as `LazyFit` does."""
        if routes is None:
            return await self._all()
        # The first is the default route; the order of the others says nothing.
        return await self._of((routes[0], *sorted({*routes[1:]} - {routes[0]})))()


class Runtime:
    """The event loop of a worker process, its connections, and the background tasks that run as long as it does."""

    def __init__(self, app: Celery, config: Config, redis: str, *, serving: Callable[[], Collection[str]]) -> None:
        """`serving` returns the models whose queues this process consumes now."""
        self._loop = event_loop()
        self._background: list[asyncio.Task[None]] = []
        self._started: set[asyncio.Task[None]] = set()
        # Fitted at the first call: only routers need them.
        self._cascade = LazyCascades(lambda routes: _fit_cascade(config, routes))
        self._predictor = LazyFit(lambda: _fit_predictor(config))
        self.ports = self._loop.run(self._bind(app, config, redis, serving))

    @property
    def is_ours(self) -> bool:
        """Whether this process made it; a forked child needs one of its own."""
        return self._loop.is_ours

    async def _bind(self, app: Celery, config: Config, redis: str, serving: Callable[[], Collection[str]]) -> Ports:
        self._ledger = Ledger(redis, tuple(config.models))
        self._clients = Clients(config)
        health_file = os.environ.get("POINTSMAN_READY_FILE")
        self._heartbeat = Heartbeat(
            self._ledger, health_file=Path(health_file) if health_file else None, serving=serving
        )
        publisher = Publisher(self._ledger.store, app)
        await self._ledger.fleet.configure({name: model.capacity for name, model in config.models.items()})
        await self._ledger.limiter.configure(config)
        metrics = Metrics(config.models, in_flight=lambda: self._heartbeat.count)
        self._stop_metrics = serve_metrics(metrics)
        loops = [
            self._heartbeat.beat_forever(),
            self._heartbeat.cancel_forever(),
            Sweeper(self._ledger, publisher, Rebalancer(self._ledger, config)).sweep_forever(),
            collect_garbage_forever(),
        ]
        if lag_file := os.environ.get("POINTSMAN_LAG_FILE"):
            loops.append(measure_loop_lag(Path(lag_file)))
        for loop in loops:
            task = asyncio.ensure_future(loop)
            task.add_done_callback(_end_process_on_error)
            self._background.append(task)
        return Ports(
            config=config,
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

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the loop, and do not wait for it; from any thread."""

        def begin() -> None:
            task = asyncio.ensure_future(coroutine)
            # The loop itself keeps only weak references to its tasks.
            self._started.add(task)
            task.add_done_callback(self._started.discard)

        self._loop.call(begin)

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


def _fit_cascade(config: Config, routes: tuple[str, ...] | None = None) -> Cascade:
    """Fit the classifiers, or load them from the state directory where nothing has changed since."""
    # Imported here, as below: it needs numpy, which the workers of models never do.
    from tasks.routing.classify.build import CACHE, build_cascade  # noqa: PLC0415

    return build_cascade(config, routes, cache=state_dir() / CACHE)


def _fit_predictor(config: Config) -> Predictor | None:
    """Fit the predictor of the configuration's outcomes, or load it in the same way; None without outcomes."""
    if config.outcomes is None:
        return None
    from tasks.routing.quality.predictor import CACHE, build_predictor  # noqa: PLC0415

    return build_predictor(config, cache=state_dir() / CACHE)


async def collect_garbage_forever() -> None:
    gc.collect()
    # What exists now, modules above all, lives on: no later collection needs to scan it.
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    while True:
        await asyncio.sleep(FULL_COLLECTION_EVERY)
        gc.collect()
