"""Who is told of the attempts of this process. A consumer that fails is logged and harms no call."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tasks.telemetry import Attempt, Hook

__all__ = ["Hooks"]

log = structlog.get_logger(__name__)


class Hooks:
    """A `tasks.telemetry.Hook` that passes each event on to several."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(hooks)

    def attempt(self, event: Attempt) -> None:
        for hook in self._hooks:
            try:
                hook.attempt(event)
            except Exception:
                log.exception("telemetry.hook_failed", hook=type(hook).__name__)
