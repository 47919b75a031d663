"""The files of `tasks/` that a single job runs through, from submit to its result: they stay few."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests import forked
from tests.harness import fleet, wait_for
from tests.traced import Recorder

#: Files of `tasks/` that one single job may run through.
MOST_FILES = 28
QUEUES = {"router": "route,join", "worker": "model.fast"}


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    """The files by process, as paths relative to the repository."""
    folder = tmp_path_factory.mktemp("way")
    here = Recorder()
    here.install()  # before the thread of the producer starts
    with fleet(folder, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running:
        processes = {name: _start(folder, name, running.env) for name in QUEUES}
        try:
            _wait_until_ready(folder)
            # The first job imports, connects and caches.
            running.producer.wait(running.producer.submit({"text": "warm up"}).id, timeout=60)
            _signal_all(processes, folder, ".recording")
            with here:
                result = running.producer.wait(running.producer.submit({"text": "a refund"}).id, timeout=60)
            _signal_all(processes, folder, ".files")
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait(30)
    assert result.state == "succeeded"
    return {"producer": here.files} | {name: (folder / f"{name}.files").read_text().split() for name in QUEUES}


def _start(folder: Path, name: str, env: dict[str, str]) -> forked.Process:
    words = ["celery", "-A", "worker", "worker", "-Q", QUEUES[name], "-c", "4", "-n", f"{name}@way", "-l", "INFO"]
    words += ["--without-gossip", "--without-mingle"]
    with (folder / f"{name}.log").open("wb") as log:
        return forked.start("tests.traced", str(folder / name), *words, env={**os.environ, **env}, output=log)


def _wait_until_ready(folder: Path) -> None:
    for name in QUEUES:
        log = folder / f"{name}.log"
        wait_for(partial(_is_ready, log), f"the start of {name}")


def _is_ready(log: Path) -> bool:
    return " ready." in log.read_text()


def _signal_all(processes: dict[str, forked.Process], folder: Path, suffix: str) -> None:
    for process in processes.values():
        process.send_signal(signal.SIGUSR2)
    for name in processes:
        wait_for((folder / f"{name}{suffix}").exists, f"{name}{suffix}")


def test_single_job_runs_through_few_files(way):
    files = sorted({name for found in way.values() for name in found if name.startswith("tasks/")})

    assert "tasks/accept.py" in way["producer"]
    assert "tasks/route.py" in way["router"]
    assert "tasks/call.py" in way["worker"]
    assert len(files) <= MOST_FILES, "\n".join(files)
