"""The consumers of attempt events: a log line for each attempt, and `worker.metrics`.

A consumer that fails is logged and harms no call. An `AttemptEvent` holds no prompt, output or key, so neither logs
nor metrics can show one. Only the log names jobs; the labels of metrics are few and known beforehand.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import structlog

from tasks.contract.attempt_event import AttemptEvent, Hook
from tasks.contract.errors import ConfigError

__all__ = ["AttemptLog", "Hooks", "logs_all_attempts"]

log = structlog.get_logger(__name__)


class Hooks:
    """A `tasks.contract.attempt_event.Hook` that passes each event on to several."""

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
