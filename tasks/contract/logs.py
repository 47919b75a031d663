"""Logs: one event a line, readable on a terminal, JSON elsewhere. They never hold a prompt, an output or a key."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

import structlog

from tasks.contract.errors import PointsmanError

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

#: Celery's loggers of every message received and every task ended.
_EVERY_MESSAGE = ("celery.app.trace", "celery.worker.strategy")


def configure_logs(level: Any = None) -> None:
    """Send the events of logging and structlog to stderr. `level` is a name or a number, by default WARNING."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    plain = structlog.processors.ExceptionRenderer(format_error)
    # structlog's own formatter shows the variables of each frame, and so prompts and keys.
    last: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=_write_error)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
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
            *([] if sys.stderr.isatty() else [plain]),
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if isinstance(level, int) else logging.getLevelName(str(level or "WARNING").upper()))
    # These loggers write several lines a call; Flower and the metrics show the same at less cost.
    quiet = ["httpx"] if os.environ.get("POINTSMAN_LOG_ATTEMPTS") == "all" else ["httpx", *_EVERY_MESSAGE]
    for name in quiet:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def format_error(exc_info: ExcInfo) -> str:
    """Format the tracebacks and types of an error and of its causes; messages only of our own errors.

    The message of a library, of a custom join or of a custom strategy may quote the text of a job.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        message = f": {error}" if isinstance(error, PointsmanError) else ""
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(error).__name__}{message}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nThen:\n\n".join(reversed(parts))


def _write_error(stream: TextIO, exc_info: ExcInfo) -> None:
    stream.write("\n" + format_error(exc_info))
