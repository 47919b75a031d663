"""The consumers of attempt events: a log line for each attempt, and metrics for Prometheus.

A consumer that fails is logged and harms no call. An `AttemptEvent` holds no prompt, output or key, so neither logs
nor metrics can show one. Only the log names jobs; the labels of metrics are few and known beforehand.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from tasks.config.models import Model
from tasks.contract.atomic_file import write_at_once
from tasks.contract.errors import ConfigError, ModelError
from tasks.contract.model_client import AttemptEvent, Hook

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds: the buckets that OpenTelemetry's conventions for generative AI prescribe for the duration of an operation.
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
#: The label for a value that is not known beforehand: no reply of a provider may create a time series.
OTHER = "other"
#: Why an answer ended, in OpenAI's words.
FINISH_REASONS = frozenset({"stop", "length", "tool_calls"})


class Hooks:
    """A `tasks.contract.model_client.Hook` that passes each event on to several."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(hooks)

    def attempt(self, event: AttemptEvent) -> None:
        for hook in self._hooks:
            try:
                hook.attempt(event)
            except Exception:
                log.exception("telemetry.hook_failed", hook=type(hook).__name__)


class AttemptLog:
    """Logs each failed attempt as WARNING and, with `all_attempts`, every other one as INFO."""

    def __init__(self, *, all_attempts: bool = False) -> None:
        self._all_attempts = all_attempts
        self._log = structlog.get_logger("pointsman.attempts")
        self._level = logging.getLogger("pointsman.attempts")

    def attempt(self, event: AttemptEvent) -> None:
        failed = event.outcome == "failed"
        # Checked before the line is made: structlog makes a line first, and logging may drop it.
        if not (failed or self._all_attempts) or not self._level.isEnabledFor(
            logging.WARNING if failed else logging.INFO
        ):
            return
        fields = {
            "job": event.job,
            "index": event.index,
            "attempt": event.number,
            "model": event.model,
            "provider": event.provider,
            "route": event.route,
            "latency_s": round(event.latency_s, 4),
            "queue_wait_s": round(event.queue_wait_s, 4),
            "first_byte_s": None if event.first_byte_s is None else round(event.first_byte_s, 4),
            "input_tokens": event.usage.input_tokens,
            "output_tokens": event.usage.output_tokens,
            "cost_usd": event.cost_usd or None,
            "finish_reason": event.finish_reason,
            "error": event.error,
            "status": event.status,
            "retry_in_s": None if event.retry_in_s is None else round(event.retry_in_s, 3),
            "hedge": event.hedge or None,
            "probe": event.probe or None,
        }
        write = self._log.warning if failed else self._log.info
        write(f"attempt.{event.outcome}", **{name: value for name, value in fields.items() if value is not None})


def logs_all_attempts() -> bool:
    """Whether this process logs successful attempts, too: ``POINTSMAN_LOG_ATTEMPTS=all``.

    A line costs as much CPU as all of the ledger's writes for a call, and metrics and Flower show the same facts.

    Raises:
        ConfigError: for another value than ``all`` and ``failed``.
    """
    value = os.environ.get("POINTSMAN_LOG_ATTEMPTS") or "failed"
    if value not in {"all", "failed"}:
        raise ConfigError("POINTSMAN_LOG_ATTEMPTS: must be all or failed")
    return value == "all"


class Metrics:
    """A hook that counts attempts, in a registry of its own. `docs/reference/metrics.md` lists the metrics."""

    def __init__(self, models: Collection[str], *, in_flight: Callable[[], int]) -> None:
        """`models` are those of the configuration; `in_flight` counts this process's running calls."""
        self.registry = registry = CollectorRegistry()
        self._models = frozenset(models)
        self._providers = frozenset(get_args(Model.model_fields["provider"].annotation))
        self._errors = frozenset(_error_codes(ModelError))

        def counter(name: str, text: str, *labels: str) -> Callable[..., Counter]:
            return _cached(Counter(name, text, ("model", *labels), registry=registry).labels)

        def histogram(name: str, text: str) -> Callable[..., Histogram]:
            return _cached(Histogram(name, text, ("model",), buckets=DURATION_BUCKETS, registry=registry).labels)

        self._attempts = counter(
            "pointsman_attempts", "Attempts at a model that ended.", "provider", "outcome", "error"
        )
        self._duration = histogram("pointsman_attempt_duration_seconds", "From sending to the whole answer.")
        self._first_byte = histogram("pointsman_first_byte_seconds", "From sending to the answer's first byte.")
        self._queue_wait = histogram("pointsman_queue_wait_seconds", "From admission to the attempt's start.")
        self._tokens = counter(
            "pointsman_tokens",
            "Tokens as the provider counts them; cached ones are among the input's, reasoning ones among the output's.",
            "type",
        )
        self._cost = counter("pointsman_cost_usd", "USD at the configured prices.")
        self._answers = counter("pointsman_answers", "Answers by their end.", "finish_reason")
        self._hedges = counter("pointsman_hedges", "Attempts that raced another.")
        self._retries = counter("pointsman_retries", "Attempts that are tried again.")
        calls = Gauge("pointsman_calls_in_flight", "Calls that this process runs now.", registry=registry)
        calls.set_function(in_flight)

    def attempt(self, event: AttemptEvent) -> None:
        model = event.model if event.model in self._models else OTHER
        provider = event.provider if event.provider in self._providers else OTHER
        error = event.error if not event.error or event.error in self._errors else OTHER
        self._attempts(model, provider, event.outcome, error or "").inc()
        self._duration(model).observe(event.latency_s)
        self._queue_wait(model).observe(event.queue_wait_s)
        first_byte = self._first_byte(model)
        if event.first_byte_s is not None:
            first_byte.observe(event.first_byte_s)
        for kind in ("input", "cached", "output", "reasoning"):
            self._tokens(model, kind).inc(max(0, getattr(event.usage, f"{kind}_tokens")))
        self._cost(model).inc(max(0.0, event.cost_usd))
        if event.finish_reason is not None:
            self._answers(model, event.finish_reason if event.finish_reason in FINISH_REASONS else OTHER).inc()
        self._hedges(model).inc(event.hedge)
        self._retries(model).inc(event.retry_in_s is not None)


def _cached(labels: Callable[..., T]) -> Callable[..., T]:
    """The same time series for the same labels, without the lock and the tuple that each look-up costs."""
    return lru_cache(maxsize=4096)(labels)


def _error_codes(kind: type[ModelError]) -> Iterator[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from _error_codes(narrower)


def metrics_address() -> tuple[str, int] | None:
    """The host and port at which this process serves its metrics; None if it serves none.

    Raises:
        ConfigError: if the port is not a number from 0 to 65535.
    """
    port = os.environ.get("POINTSMAN_METRICS_PORT")
    if not port:
        return None
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError("POINTSMAN_METRICS_PORT: must be a port, 0 to 65535; 0 takes a free one")
    return os.environ.get("POINTSMAN_METRICS_HOST") or "127.0.0.1", int(port)


def serve_metrics(metrics: Metrics) -> Callable[[], None]:
    """Serve ``/metrics`` at `metrics_address`, from a thread of its own; returns the function that stops it.

    A port in use is logged and harms no work: several workers of one machine may have been given the same.
    """
    address = metrics_address()
    if address is None:
        return lambda: None
    host, port = address
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        remedy = "set POINTSMAN_METRICS_PORT to a free port for each worker, or to 0"
        problem = error.strerror or str(error)
        log.warning("metrics.not_served", host=host, port=port, problem=problem, remedy=remedy)
        return lambda: None
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{server.server_port}/metrics"
    log.info("metrics.served", url=url)
    if file := os.environ.get("POINTSMAN_METRICS_FILE"):
        write_at_once(Path(file), url + "\n")

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return stop
