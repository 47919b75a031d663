"""The application's answer and log for unexpected errors."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx
import structlog

from producer.api import RequestGuard, create_app
from tasks.contract.errors import PointsmanError
from tasks.loading.load import parse

CONFIG = parse("""
models: {fast: {provider: simulated}}
routes: {billing: {models: [fast]}}
default_route: billing
""")


class BrokenProducer:
    """Fails every submission with an error that quotes the prompt, as foreign libraries do."""

    config = CONFIG
    ledger = SimpleNamespace()

    async def read_files(self, jobs: Any) -> Any:
        return jobs

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def submit_many(self, _jobs: Any) -> Any:
        raise self._error


def submit_to(error: Exception) -> tuple[httpx.Response, list[Any]]:
    async def ask() -> httpx.Response:
        app = create_app(cast(Any, BrokenProducer(error)), RequestGuard(()))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.post("/jobs", json={"text": "a secret prompt"})

    with structlog.testing.capture_logs() as logs:
        return asyncio.run(ask()), cast(list[Any], logs)


def test_unexpected_error_is_a_500_without_internals_and_logged():
    response, (entry,) = submit_to(RuntimeError("a secret prompt"))

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "RuntimeError" not in response.text
    assert (entry["event"], entry["error"], entry["route"]) == ("request.failed", "RuntimeError", "/jobs")
    assert any(frame.endswith("submit_many") for frame in entry["traceback"])


def test_unexpected_error_quotes_no_prompt_in_answer_or_log():
    response, logs = submit_to(ValueError("a secret prompt"))

    assert "secret" not in response.text
    assert "secret" not in repr(logs)


def test_own_error_is_logged_with_its_message():
    response, (entry,) = submit_to(PointsmanError("Redis refused a command: OOM"))

    assert response.status_code == 500
    assert "OOM" not in response.text
    assert entry["problem"] == "Redis refused a command: OOM"
