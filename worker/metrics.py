"""The metrics of one worker process, and the HTTP server from which Prometheus collects them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from tasks.config.models import Model
from tasks.contract.atomic_file import write_at_once
from tasks.contract.attempt_event import AttemptEvent
from tasks.contract.errors import ConfigError, ModelError

__all__ = ["Metrics", "metrics_address", "serve_metrics"]

log = structlog.get_logger(__name__)

#: Seconds: the buckets that OpenTelemetry's conventions for generative AI prescribe for the duration of an operation.
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
#: The label for a value that is not known beforehand: no reply of a provider may create a time series.
OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Series:
    """The time series of one kind of attempt."""

    attempts: Counter
    duration: Histogram
    queue_wait: Histogram
    first_byte: Histogram
    tokens: Mapping[str, Counter]
    cost: Counter
    hedges: Counter
    retries: Counter


class Metrics:
    """A hook that counts attempts, in a registry of its own. `docs/reference/metrics.md` lists the metrics."""

    def __init__(self, models: Collection[str], *, in_flight: Callable[[], int]) -> None:
        """`models` are those of the configuration; `in_flight` counts this process's running calls."""
        self.registry = CollectorRegistry()
        self._models = frozenset(models)
        self._providers = frozenset(get_args(Model.model_fields["provider"].annotation))
        self._errors = frozenset(_error_codes(ModelError))
        self._attempts = Counter(
            "pointsman_attempts", "Attempts at a model that ended.", ("model", "provider", "outcome", "error"),
            registry=self.registry,
        )  # fmt: skip
        self._duration = self._histogram("pointsman_attempt_duration_seconds", "From sending to the whole answer.")
        self._first_byte = self._histogram("pointsman_first_byte_seconds", "From sending to the answer's first byte.")
        self._queue_wait = self._histogram("pointsman_queue_wait_seconds", "From admission to the attempt's start.")
        self._tokens = Counter(
            "pointsman_tokens",
            "Tokens as the provider counts them; cached ones are among the input's, reasoning ones among the output's.",
            ("model", "type"),
            registry=self.registry,
        )
        self._cost = Counter("pointsman_cost_usd", "USD at the configured prices.", ("model",), registry=self.registry)
        self._hedges = Counter("pointsman_hedges", "Attempts that raced another.", ("model",), registry=self.registry)
        self._retries = Counter(
            "pointsman_retries", "Attempts that are tried again.", ("model",), registry=self.registry
        )
        calls = Gauge("pointsman_calls_in_flight", "Calls that this process runs now.", registry=self.registry)
        calls.set_function(in_flight)
        # Cached, since prometheus_client takes a lock and makes a tuple for each look at a label set.
        self._series_of = lru_cache(maxsize=4096)(self._find_series)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ("model",), buckets=DURATION_BUCKETS, registry=self.registry)

    def attempt(self, event: AttemptEvent) -> None:
        series = self._series_of(event.model, event.provider, event.outcome, event.error)
        series.attempts.inc()
        series.duration.observe(event.latency_s)
        series.queue_wait.observe(event.queue_wait_s)
        if event.first_byte_s is not None:
            series.first_byte.observe(event.first_byte_s)
        usage = event.usage
        for counter, tokens in (
            (series.tokens["input"], usage.input_tokens),
            (series.tokens["cached"], usage.cached_tokens),
            (series.tokens["output"], usage.output_tokens),
            (series.tokens["reasoning"], usage.reasoning_tokens),
        ):
            if tokens > 0:
                counter.inc(tokens)
        if event.cost_usd > 0:
            series.cost.inc(event.cost_usd)
        if event.hedge:
            series.hedges.inc()
        if event.retry_in_s is not None:
            series.retries.inc()

    def _find_series(self, model: str, provider: str, outcome: str, error: str | None) -> _Series:
        model = model if model in self._models else OTHER
        provider = provider if provider in self._providers else OTHER
        error = error if not error or error in self._errors else OTHER
        return _Series(
            attempts=self._attempts.labels(model, provider, outcome, error or ""),
            duration=self._duration.labels(model),
            queue_wait=self._queue_wait.labels(model),
            first_byte=self._first_byte.labels(model),
            tokens={kind: self._tokens.labels(model, kind) for kind in ("input", "cached", "output", "reasoning")},
            cost=self._cost.labels(model),
            hedges=self._hedges.labels(model),
            retries=self._retries.labels(model),
        )


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
