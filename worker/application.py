"""The Celery application of the workers, and what Celery's signals start and end in a worker process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

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
from tasks.queue.ports import Ports
from worker.runtime import Runtime
from worker.tasks import Application

#: Seconds that calls in flight have to end at a soft shutdown (SIGQUIT), unless ``POINTSMAN_GRACE_SECONDS`` is set; the
#: other calls go back to the broker.
DEFAULT_SHUTDOWN_TIMEOUT = "10"


def _config_path() -> Path:
    return Path(os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml")


def _configured_models() -> tuple[str, ...]:
    """The models whose queues a worker consumes without ``-Q``; none without a configuration."""
    try:
        return tuple(load(_config_path()).models)
    except ConfigError:
        return ()  # `_check` refuses to start a worker; inspect, control and flower need no configuration


app = cast(Application, make_app("pointsman", redis_url(), models=_configured_models(), kind=Application))
app.conf.update(
    worker_pool="worker.pool:TaskPool",
    # It counts the parts of chords. Celery's scheme for a unix socket differs from redis-py's.
    result_backend=f"worker.backend:AwaitingRedisBackend+{result_url(redis_url()).removeprefix('redis+')}",
)
_runtime: Runtime | None = None
#: Celery's consumer, once it runs: it knows the consumed queues, also those that were added since the start.
_consumer: Any = None


def _served_models() -> list[str]:
    """The models whose queues this process consumes now; none once it is ending."""
    if _consumer is None:
        names = list(app.amqp.queues.consume_from)  # a child of a pool that forks
    else:
        consumer = _consumer.task_consumer  # None while Celery reconnects
        queues = list(consumer.queues) if consumer is not None else []
        names = [queue.name for queue in queues if consumer.consuming_from(queue.name)]
    return [model for name in names if (model := model_of_queue(name)) is not None]


def _bound_ports() -> Ports:
    """This process's ports; in a pool that forks, each child has its own runtime."""
    global _runtime  # noqa: PLW0603 - one a process, like the application itself
    if _runtime is None or not _runtime.is_ours:
        from worker.runtime import Runtime  # noqa: PLC0415 - inspect and control need no event loop

        _runtime = Runtime(app, load(_config_path()), redis_url(), serving=_served_models)
    return _runtime.ports


app.ports = _bound_ports


@signals.celeryd_init.connect
def _check(options: Any = None, **_: Any) -> None:
    """Refuse to start with a mistake in configuration or environment, or for the queue of a model that is unknown."""
    try:
        config = load(_config_path())
        _check_queues((options or {}).get("queues"), config)
        # inspect and control have no metrics
        from worker.telemetry import logs_all_attempts, metrics_address  # noqa: PLC0415

        metrics_address()
        logs_all_attempts()
        app.conf.worker_soft_shutdown_timeout = _shutdown_timeout()
    except PointsmanError as error:
        print(f"pointsman worker: {error}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
        raise SystemExit(2) from None


def _shutdown_timeout() -> float:
    text = os.environ.get("POINTSMAN_GRACE_SECONDS") or DEFAULT_SHUTDOWN_TIMEOUT
    if not text.replace(".", "", 1).isdecimal():
        raise ConfigError(f"POINTSMAN_GRACE_SECONDS: {text!r} is no number of seconds; for example 10")
    return float(text)


def _check_queues(queues: Any, config: Config) -> None:
    names = queues.split(",") if isinstance(queues, str) else list(queues or ())
    for name in names:
        model = model_of_queue(name)
        if model is not None and model not in config.models:
            raise ConfigError(f"queue {name}: no such model; configured: {', '.join(sorted(config.models))}")


@signals.setup_logging.connect
def _logs(loglevel: Any = None, **_: Any) -> None:
    configure_logs(loglevel)


@signals.worker_ready.connect
def _ready(sender: Any = None, **_: Any) -> None:
    global _consumer  # noqa: PLW0603 - one a process
    _consumer = sender
    # A pool that forks makes a runtime in each child; the others make it now, so that the sweeper runs from the start.
    if type(sender.pool).__module__ != "celery.concurrency.prefork":
        _bound_ports()
        if ROUTE in app.amqp.queues.consume_from:
            _fit_classifiers()
    ready = os.environ.get("POINTSMAN_READY_FILE")
    if ready:
        # The process that started this one waits for the file.
        Path(ready).touch()


def _fit_classifiers() -> None:
    """Refuse to route with classifiers that can't be fitted: jobs would take the default route, or fail."""
    assert _runtime is not None
    try:
        _runtime.fit()
    except PointsmanError as error:
        print(f"pointsman worker: {error}", file=sys.stderr)  # noqa: T201 - as for a configuration with errors
        raise WorkerShutdown(2) from None


@signals.task_revoked.connect
def _revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    """End what a revoked message stands for. Celery's thread calls this, and must not wait."""
    from worker.revoked import end_revoked  # noqa: PLC0415 - as for the runtime

    if sender is not None and sender.name.startswith("tasks.") and sender.name != "tasks.batch":
        ports = _bound_ports()
        assert _runtime is not None
        _runtime.start(end_revoked(ports, sender.name, str(request.id)))


@signals.worker_shutdown.connect
def _shutdown(**_: Any) -> None:
    if _runtime is not None and _runtime.is_ours:
        _runtime.close()
