"""A worker that can't do its work says why and does not start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.harness import PATIENCE, REPOSITORY


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"POINTSMAN_GRACE_SECONDS": "soon"}, "POINTSMAN_GRACE_SECONDS: 'soon' is no number of seconds"),
        ({"POINTSMAN_METRICS_PORT": "http"}, "POINTSMAN_METRICS_PORT: must be a port"),
        ({"POINTSMAN_LOG_ATTEMPTS": "some"}, "POINTSMAN_LOG_ATTEMPTS: must be all or failed"),
        ({"POINTSMAN_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml: no such file"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_its_variable_and_its_remedy(env, told):
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", "model.fast"],
        env={**os.environ, "POINTSMAN_CONFIG": "pointsman.yaml", **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert f"pointsman worker: {told}" in done.stderr
    assert "Traceback" not in done.stderr
