"""A worker with a bad environment or configuration reports the reason and does not start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.harness import DEADLINE, REPOSITORY


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"POINTSMAN_GRACE_SECONDS": "soon"}, "POINTSMAN_GRACE_SECONDS: 'soon' is no number of seconds"),
        ({"POINTSMAN_METRICS_PORT": "http"}, "POINTSMAN_METRICS_PORT: must be a port"),
        ({"POINTSMAN_LOG_ATTEMPTS": "some"}, "POINTSMAN_LOG_ATTEMPTS: must be all or failed"),
        ({"POINTSMAN_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml: no such file"),
    ],
)
def test_worker_reports_a_bad_environment_variable_with_its_remedy(env, message):
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", "model.fast"],
        env={**os.environ, "POINTSMAN_CONFIG": "pointsman.yaml", **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 2
    assert f"pointsman worker: {message}" in done.stderr
    assert "Traceback" not in done.stderr
