"""What tests start as `python -m …` and is forked instead behaves as if an interpreter had been started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests import forked
from tests.harness import DEADLINE, REPOSITORY, alive

#: A module of the standard library that runs for as long as it is let, on a free port.
SERVER = ("http.server", "--bind", "127.0.0.1", "0")


def test_forked_process_has_the_given_directory_environment_and_streams(tmp_path):
    (tmp_path / "said.txt").write_text("one\n")
    done = forked.run("zipfile", "-c", "made.zip", "said.txt", env=os.environ, cwd=tmp_path, timeout=DEADLINE)
    assert (done.returncode, (tmp_path / "made.zip").exists()) == (0, True)

    read = forked.run("json.tool", env={**os.environ, "TZ": "UTC"}, cwd=tmp_path, stdin='{"a": "ü"}', timeout=DEADLINE)
    assert (read.stdout, read.stderr) == ('{\n    "a": "\\u00fc"\n}\n', "")


def test_forked_process_has_the_exit_code_and_errors_of_a_started_one(tmp_path):
    words = ("json.tool", "nowhere.json")
    done = forked.run(*words, env=os.environ, cwd=tmp_path, timeout=DEADLINE)
    started = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (started.returncode, started.stdout)
    assert done.stderr.splitlines()[-1] == started.stderr.splitlines()[-1]


def test_forked_process_imports_the_code_of_this_repository(tmp_path):
    tree = forked.run(
        "trace", "--listfuncs", "--module", "tasks.contract.errors", env=os.environ, cwd=tmp_path, timeout=DEADLINE
    )
    assert str(REPOSITORY / "tasks" / "contract" / "errors.py") in tree.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_forked_process_is_ended_by_signals_and_leaves_no_zombie(tmp_path, number):
    with (tmp_path / "log").open("wb") as log:
        process = forked.start(*SERVER, env=os.environ, output=log)
    assert alive(process.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)

    process.send_signal(number)

    assert process.wait(DEADLINE) == -number
    assert process.poll() == -number
    assert not alive(process.pid)
    process.kill()  # is nothing any more


def test_forked_process_that_runs_too_long_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(*SERVER, env=os.environ, cwd=tmp_path, timeout=0.2)


def test_forked_process_with_interpreter_options_is_started_anew(tmp_path):
    env = {**os.environ, "PYTHONVERBOSE": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = forked.start("this", env=env, output=log)
    assert process.wait(DEADLINE) == 0
    assert "import 'site'" in (tmp_path / "log").read_text()
