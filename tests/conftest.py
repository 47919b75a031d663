"""What all tests share: a word on what is left out."""

from __future__ import annotations

import pytest

from tests.harness import REPOSITORY

SHARED = REPOSITORY.parent / "shared" / "data"


def pytest_report_header() -> str:
    if SHARED.is_dir():
        return f"data: {SHARED}"
    return f"data: {SHARED} is absent: the tests on its documents and data sets are left out"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test for each document has no case where there is none: it is left out, where pytest would skip it."""
    left_out = [
        item for item in items if any("empty parameter set" in str(mark.kwargs) for mark in item.iter_markers())
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
