"""The consumers of attempt events: a log line for each attempt, and the metrics that Prometheus collects.

A consumer that fails is logged and harms no call. An `AttemptEvent` holds no prompt, output or key, so neither logs
nor metrics can show one. Only the log names jobs; the labels of metrics are few and known beforehand.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from tasks.config.models import Model
from tasks.contract.errors import ConfigError, ModelError
from tasks.contract.telemetry import AttemptEvent, Hook

__all__ = ["AttemptLog", "Hooks", "Metrics", "logs_everything", "metrics_address", "serve_metrics"]

log = structlog.get_logger(__name__)

#: Seconds: the buckets that OpenTelemetry's conventions for generative AI prescribe for the duration of an operation.
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
#: Label of what is not known beforehand, so that no stranger's word makes a time series.
OTHER = "other"


class Hooks:
    """A `tasks.contract.telemetry.Hook` that passes each event on to several."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(hooks)

    def attempt(self, event: AttemptEvent) -> None:
        for hook in self._hooks:
            try:
                hook.attempt(event)
            except Exception:
                log.exception("telemetry.hook_failed", hook=type(hook).__name__)


class AttemptLog:
    """One line an attempt: WARNING where it failed, and with `everything` INFO where it did not."""

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self._log = structlog.get_logger("pointsman.attempts")
        self._level = logging.getLogger("pointsman.attempts")

    def attempt(self, event: AttemptEvent) -> None:
        failed = event.outcome == "failed"
        # Asked before the line is made: structlog makes it first and lets logging drop it.
        if not (failed or self._everything) or not self._level.isEnabledFor(
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
        tell = self._log.warning if failed else self._log.info
        tell(f"attempt.{event.outcome}", **{name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class _Children:
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
    """The metrics of one process, in a registry of their own. `docs/reference/metrics.md` lists them."""

    def __init__(self, models: Collection[str], *, in_flight: Callable[[], int]) -> None:
        """`models` are those of the configuration; `in_flight` counts this process's running calls."""
        self.registry = CollectorRegistry()
        self._models = frozenset(models)
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
        flying = Gauge("pointsman_calls_in_flight", "Calls that this process runs now.", registry=self.registry)
        flying.set_function(in_flight)
        # What a label set's child is, is asked for each attempt: prometheus_client takes a lock and a tuple for it.
        self._of = lru_cache(maxsize=4096)(self._children)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ("model",), buckets=DURATION_BUCKETS, registry=self.registry)

    def attempt(self, event: AttemptEvent) -> None:
        known = self._of(event.model, event.provider, event.outcome, event.error)
        known.attempts.inc()
        known.duration.observe(event.latency_s)
        known.queue_wait.observe(event.queue_wait_s)
        if event.first_byte_s is not None:
            known.first_byte.observe(event.first_byte_s)
        usage = event.usage
        for counter, tokens in (
            (known.tokens["input"], usage.input_tokens),
            (known.tokens["cached"], usage.cached_tokens),
            (known.tokens["output"], usage.output_tokens),
            (known.tokens["reasoning"], usage.reasoning_tokens),
        ):
            if tokens > 0:
                counter.inc(tokens)
        if event.cost_usd > 0:
            known.cost.inc(event.cost_usd)
        if event.hedge:
            known.hedges.inc()
        if event.retry_in_s is not None:
            known.retries.inc()

    def _children(self, model: str, provider: str, outcome: str, error: str | None) -> _Children:
        model = model if model in self._models else OTHER
        labels = (model, _provider(provider), outcome, "" if error is None else _error(error))
        return _Children(
            attempts=self._attempts.labels(*labels),
            duration=self._duration.labels(model),
            queue_wait=self._queue_wait.labels(model),
            first_byte=self._first_byte.labels(model),
            tokens={kind: self._tokens.labels(model, kind) for kind in ("input", "cached", "output", "reasoning")},
            cost=self._cost.labels(model),
            hedges=self._hedges.labels(model),
            retries=self._retries.labels(model),
        )


@cache
def _providers() -> frozenset[str]:
    return frozenset(get_args(Model.model_fields["provider"].annotation))


def _provider(name: str) -> str:
    return name if name in _providers() else OTHER


@cache
def _errors() -> frozenset[str]:
    found, left = set(), [ModelError]
    while left:
        kind = left.pop()
        found.add(kind.code)
        left += kind.__subclasses__()
    return frozenset(found)


def _error(code: str) -> str:
    return code if code in _errors() else OTHER


def logs_everything() -> bool:
    """Whether this process shall log the attempts that succeeded, too: ``POINTSMAN_LOG_ATTEMPTS=all``.

    A line costs as much CPU as all of the ledger's writing for a call, and metrics and Flower tell the same.

    Raises:
        ConfigError: for another value than ``all`` and ``failed``.
    """
    wanted = os.environ.get("POINTSMAN_LOG_ATTEMPTS") or "failed"
    if wanted not in {"all", "failed"}:
        raise ConfigError("POINTSMAN_LOG_ATTEMPTS: must be all or failed")
    return wanted == "all"


def metrics_address() -> tuple[str, int] | None:
    """Where this process shall serve its metrics: host and port, or None for nowhere.

    Raises:
        ConfigError: for a port that is none.
    """
    port = os.environ.get("POINTSMAN_METRICS_PORT")
    if not port:
        return None
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError("POINTSMAN_METRICS_PORT: must be a port, 0 to 65535; 0 takes a free one")
    return os.environ.get("POINTSMAN_METRICS_HOST") or "127.0.0.1", int(port)


def serve_metrics(metrics: Metrics) -> Callable[[], None]:
    """Serve ``/metrics`` where the environment says, from a thread of its own; returns what ends it.

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
    file = os.environ.get("POINTSMAN_METRICS_FILE")
    if file:
        _write(Path(file), url)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return end


def _write(file: Path, url: str) -> None:
    draft = file.with_name(file.name + ".new")
    draft.write_text(url + "\n", encoding="utf-8")
    draft.replace(file)
