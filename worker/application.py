"""What happens in a worker process, from start to end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.exceptions import WorkerShutdown

# Importing these registers their Celery tasks.
from tasks import batch, call, fanout, finish_part, join, route  # noqa: F401
from tasks.config.config import Config
from tasks.contract.errors import ConfigError, PointsmanError
from tasks.contract.logs import configure_logs
from tasks.loading.load import load
from tasks.queue.address import redis_url, result_url
from tasks.queue.app import ROUTE, make_app, model_of_queue
from worker.tasks import Application

if TYPE_CHECKING:
    from tasks.queue.ports import Ports
    from worker.runtime import Runtime

__all__ = ["app"]

#: Seconds that calls in flight have to end at a soft shutdown (SIGQUIT), unless the environment says otherwise; the
#: others go back to the broker.
GRACE = "10"


def _config_path() -> Path:
    return Path(os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml")


def _models() -> tuple[str, ...]:
    """The models whose queues a worker consumes when it is told none; without a configuration there are none yet."""
    try:
        return tuple(load(_config_path()).models)
    except ConfigError:
        return ()  # the worker itself refuses to start; inspect, control and flower need no configuration


app = make_app("pointsman", redis_url(), models=_models(), kind=Application)
app.conf.update(
    worker_pool="worker.pool:TaskPool",
    # Counts the parts of chords. Celery's word for a socket is another one than redis-py's.
    result_backend=f"worker.backend:AwaitingRedisBackend+{result_url(redis_url()).removeprefix('redis+')}",
)
_runtime: Runtime | None = None
#: Celery's consumer, once it runs: it knows which queues are consumed, also those that were added since the start.
_consumer: Any = None


def _serving() -> list[str]:
    """The models whose queues this process takes calls from now: none any more once it was told to end."""
    if _consumer is None:
        names = list(app.amqp.queues.consume_from)  # a child of a pool that forks
    else:
        consumer = _consumer.task_consumer  # None while the connection is made anew
        queues = list(consumer.queues) if consumer is not None else []
        names = [queue.name for queue in queues if consumer.consuming_from(queue.name)]
    return [model for name in names if (model := model_of_queue(name)) is not None]


def _bound_ports() -> Ports:
    """This process's ports; a pool that forks makes one runtime a child."""
    global _runtime  # noqa: PLW0603 - one a process, like the application itself
    if _runtime is None or not _runtime.is_ours:
        from worker.runtime import Runtime  # noqa: PLC0415 - inspect and control need no loop

        _runtime = Runtime(app, load(_config_path()), redis_url(), serving=_serving)
    return _runtime.ports


app.pointsman_ports = _bound_ports  # type: ignore[attr-defined]


@signals.celeryd_init.connect
def _check(options: Any = None, **_: Any) -> None:
    """Refuse to start on a configuration with errors, or for the queue of a model that it doesn't have."""
    try:
        config = load(_config_path())
        _check_queues((options or {}).get("queues"), config)
        from worker.telemetry import logs_everything, metrics_address  # noqa: PLC0415 - inspect and control have none

        metrics_address()
        logs_everything()
        app.conf.worker_soft_shutdown_timeout = _grace()
    except PointsmanError as error:
        print(f"pointsman worker: {error}", file=sys.stderr)  # noqa: T201 - nothing is set up yet to log
        raise SystemExit(2) from None


def _grace() -> float:
    text = os.environ.get("POINTSMAN_GRACE_SECONDS") or GRACE
    if not text.replace(".", "", 1).isdecimal():
        raise ConfigError(f"POINTSMAN_GRACE_SECONDS: {text!r} is no number of seconds; for example 10")
    return float(text)


def _check_queues(queues: Any, config: Config) -> None:
    names = queues.split(",") if isinstance(queues, str) else list(queues or ())
    for name in names:
        model = name.removeprefix("model.")
        if name.startswith("model.") and model not in config.models:
            raise ConfigError(f"queue {name}: no such model; configured: {', '.join(sorted(config.models))}")


@signals.setup_logging.connect
def _logs(loglevel: Any = None, **_: Any) -> None:
    configure_logs(loglevel)


@signals.worker_ready.connect
def _ready(sender: Any = None, **_: Any) -> None:
    global _consumer  # noqa: PLW0603 - one a process
    _consumer = sender
    # A pool that forks binds in its children; the others bind now, so that the sweeper runs before the first task.
    if type(sender.pool).__module__ != "celery.concurrency.prefork":
        _bound_ports()
        if ROUTE in app.amqp.queues.consume_from:
            _fit_classifiers()
    ready = os.environ.get("POINTSMAN_READY_FILE")
    if ready:
        # Whoever started this process waits for the file.
        Path(ready).touch()


def _fit_classifiers() -> None:
    """Refuse to route with classifiers that can't be fitted: jobs would go to the default route, or fail."""
    assert _runtime is not None
    try:
        _runtime.fit()
    except PointsmanError as error:
        print(f"pointsman worker: {error}", file=sys.stderr)  # noqa: T201 - as for a configuration with errors
        raise WorkerShutdown(2) from None


@signals.worker_shutdown.connect
def _shutdown(**_: Any) -> None:
    if _runtime is not None and _runtime.is_ours:
        _runtime.close()
