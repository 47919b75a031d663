"""Binds the real ports to the Celery application: one event loop a process, shared by all its task threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError as FutureCancelled
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from tasks.ledger import Ledger
from tasks.ports import Ports
from tasks.queue.publish import Publisher
from worker.leases import Heartbeat
from worker.models import Clients
from worker.sweeper import Sweeper
from worker.telemetry import Hooks

if TYPE_CHECKING:
    from celery import Celery

    from tasks.classify.cascade import Cascade
    from tasks.config import Config

__all__ = ["Runtime", "WorkerStopping"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds for the loop's own tasks to end; they wait for nothing but Redis.
STOP_TIMEOUT = 5.0


class WorkerStopping(RuntimeError):
    """The process ends before the call did; its message stays with the broker, its part with the sweeper."""


class Runtime:
    """The loop's thread, the connections that belong to it, and the two duties that run on it all the time."""

    def __init__(self, app: Celery, config: Config, redis: str) -> None:
        self._app = app
        self._config = config
        self._redis = redis
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pointsman-loop", daemon=True)
        self._duties: list[asyncio.Task[None]] = []
        self._pid = os.getpid()
        self._fitted: Cascade | None = None
        self._thread.start()
        self.ports = self.run(self._bind())

    @property
    def is_ours(self) -> bool:
        """Whether this process started it; a forked child needs one of its own."""
        return self._pid == os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the loop, wait on this thread.

        Raises:
            WorkerStopping: if the loop was stopped meanwhile.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except FutureCancelled:
            raise WorkerStopping("the worker process is stopping") from None

    async def _bind(self) -> Ports:
        self._ledger = Ledger(self._redis, tuple(self._config.models))
        self._clients = Clients(self._config)
        sign = os.environ.get("POINTSMAN_READY_FILE")
        self._heartbeat = Heartbeat(self._ledger, sign=Path(sign) if sign else None)
        publisher = Publisher(self._app)
        await self._ledger.fleet.configure({name: model.capacity for name, model in self._config.models.items()})
        for duty in (self._heartbeat.beat_forever(), Sweeper(self._ledger, publisher).sweep_forever()):
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
            run=self.run,
            hook=Hooks(()),
        )

    def _cascade(self) -> Cascade:
        if self._fitted is None:
            # Imported here: it brings numpy, which the workers of models never need.
            from tasks.classify.build import build_cascade  # noqa: PLC0415

            self._fitted = build_cascade(self._config)
        return self._fitted

    def close(self) -> None:
        """End the duties and close the connections. Calls that still run are left to the sweeper."""
        if not self._loop.is_running():
            return
        asyncio.run_coroutine_threadsafe(self._unbind(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _unbind(self) -> None:
        others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        end = self._loop.time() + STOP_TIMEOUT
        while others and self._loop.time() < end:
            # Again and again: a cancellation that falls into a wait that just ended gets lost (cpython#86296).
            for task in others:
                task.cancel()
            _, others = await asyncio.wait(others, timeout=0.1)
        await self._clients.close()
        await self._ledger.close()


def _end_process_on_error(task: asyncio.Task[None]) -> None:
    """A worker without heartbeat would run calls that count as lost: better none than that one."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("duty.died", exc_info=task.exception())
        os._exit(70)
