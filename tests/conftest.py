"""Fixtures that many tests share, the order of the modules, and the tests that are left out without shared data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import redis

from ops.embedded.valkey import ValkeyServer
from tasks.ledger import Ledger
from tests.harness import REPOSITORY, ledger_runs
from tests.ledger_jobs import MODELS

SHARED = REPOSITORY.parent / "shared" / "data"
#: The modules that take longest, longest first, as measured on two cores: begun last they would run on alone.
LONGEST = (
    "e2e/test_up.py",
    "integration/test_bench.py",
    "fault/test_killed.py",
    "fault/test_stranded_killed.py",
    "integration/test_pool.py",
    "fault/test_lost.py",
    "integration/test_parallel.py",
    "integration/test_profile.py",
    "integration/test_cli.py",
    "integration/test_transport_worker.py",
    "integration/test_drain.py",
    "fault/test_limits_killed.py",
    "integration/test_limits.py",
    "e2e/test_demo.py",
    "e2e/test_textbook_routing.py",
    "e2e/test_textbook_adaptive.py",
    "integration/test_classify_llm.py",
    "integration/test_documents.py",
    "integration/test_eval_strategies.py",
    "integration/test_classify_start.py",
    "unit/test_simulation_fleet.py",
    "integration/test_api.py",
    "integration/test_limits_headers.py",
    "integration/test_failing_models.py",
    "integration/test_embedded_local.py",
)


# Two cores serve many processes: how long one example takes says nothing.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey server that the tests of one module share."""
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(scope="module")
def on_ledger(server: ValkeyServer) -> Iterator[Any]:
    """Run a coroutine function with a ledger of its own, all of a module on one event loop."""

    async def view(ledger: Ledger) -> Ledger:
        return ledger

    with ledger_runs(server.url, MODELS, view) as runs:
        yield runs


@pytest.fixture
def store(server: ValkeyServer) -> Iterator[redis.Redis]:
    """A plain client of the shared server, whose databases are empty when the test starts."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.flushall()
        yield client


def pytest_report_header() -> str:
    if SHARED.is_dir():
        return f"data: {SHARED}"
    return f"data: {SHARED} is absent: the tests on its documents and data sets are left out"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, where modules are handed out to several runners.

    A test for each document has no case where there is none: it is left out, where pytest would skip it.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {f"tests/{name}": number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))
    left_out = [
        item for item in items if any("empty parameter set" in str(mark.kwargs) for mark in item.iter_markers())
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
