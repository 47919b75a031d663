"""Logs: one event a line, for people on a terminal and as JSON elsewhere. Never a prompt, an output or a key."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

__all__ = ["configure_logs"]

#: Celery's loggers that tell of every message that came and every task that ended.
_EVERY_MESSAGE = ("celery.app.trace", "celery.worker.strategy")


def configure_logs(level: Any = None) -> None:
    """Send the events of logging and structlog to stderr. `level` is a name or a number, by default WARNING."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if sys.stderr.isatty() else [structlog.processors.format_exc_info]),
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if isinstance(level, int) else logging.getLevelName(str(level or "WARNING").upper()))
    # They tell each request and each message, several lines a call: Flower and the metrics tell the same for less.
    quiet = ["httpx"] if os.environ.get("POINTSMAN_LOG_ATTEMPTS") == "all" else ["httpx", *_EVERY_MESSAGE]
    for name in quiet:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
