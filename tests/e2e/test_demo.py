"""The demo, as `make demo` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil

from tests.harness import DEADLINE, REPOSITORY


def test_demo_runs_the_main_job_and_leaves_nothing_behind(tmp_path):
    # A temporary directory of its own, by which its processes are recognized.
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    out, err = process.communicate(timeout=2 * DEADLINE)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["ok"] is True
    assert report["review"]["parts"] == 11
    assert report["review"]["simulated"] is False
    assert report["vote"]["parts"] == 5
    assert len(report["routing"]["routes"]) == 12
    assert len(set(report["routing"]["routes"].values())) == 4
    assert report["parallel"]["simulated"] is True
    assert report["parallel"]["wall_s"] < report["parallel"]["calls_s"] / 4
    # The import of onnxruntime writes this file, and no setting of it prevents that.
    assert [path.name for path in tmp_path.iterdir() if path.name != ".ses"] == []
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert left == []
