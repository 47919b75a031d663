"""The logs of an error have its type and place, and never quote a text."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
import structlog

from tasks.contract.errors import Unreachable
from tasks.contract.logs import configure_logs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(params=[io.StringIO, Terminal], ids=["file", "terminal"])
def written(request, monkeypatch):
    """The file that the logs go to; the former configuration returns after the test."""
    root, before = logging.getLogger(), (logging.getLogger().handlers[:], logging.getLogger().level)
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "celery.app.trace", "celery.worker.strategy")}
    stream = request.param()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs("INFO")
    yield stream
    root.handlers[:], root.level = before[0], before[1]
    for name, level in quiet.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def join_of_somebody(text):
    raise ZeroDivisionError(text)


def fail(text):
    try:
        join_of_somebody(text)
    except ZeroDivisionError as error:
        raise ValueError(text) from error


def go_away():
    raise Unreachable("Redis does not answer")


@pytest.mark.parametrize("log", [logging.getLogger("tasks.join"), structlog.stdlib.get_logger("worker.sweeper")])
def test_logs_of_an_error_have_its_type_and_place_and_quote_no_text(written, log):
    secret = "the text of a part"
    try:
        fail(secret)
    except ValueError:
        log.exception("join of %s failed", "01abc")
    message = written.getvalue()
    assert "01abc" in message
    assert "in join_of_somebody" in message
    assert message.index("ZeroDivisionError") < message.rindex("ValueError")
    assert secret not in message


def test_logs_of_own_errors_have_their_messages(written):
    try:
        go_away()
    except Unreachable:
        logging.getLogger("tasks.join").exception("join failed")
    message = written.getvalue()
    assert "Unreachable: Redis does not answer" in (message if written.isatty() else json.loads(message)["exception"])
