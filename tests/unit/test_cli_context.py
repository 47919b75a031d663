"""Where the command line looks for the configuration, the running `pointsman up`, and Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.cli.environment import config_path, running_up
from tasks.queue.address import hide_password, redis_url, state_dir


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("POINTSMAN_CONFIG", "POINTSMAN_REDIS_URL", "POINTSMAN_REDIS_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(tmp_path))
    return tmp_path


def write_up(folder: Path, **fields: Any) -> None:
    (folder / "up.json").write_text(json.dumps({"pid": os.getpid(), "config": "/etc/up.yaml", **fields}))


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_config_path_is_the_one_of_the_environment_first(folder, monkeypatch):
    write_up(folder)
    monkeypatch.setenv("POINTSMAN_CONFIG", "mine.yaml")
    assert config_path() == Path("mine.yaml")


def test_config_path_is_the_one_of_the_running_up_next(folder):
    write_up(folder)
    assert config_path() == Path("/etc/up.yaml")


def test_config_path_is_the_file_of_this_directory_last(folder):
    assert config_path() == Path("pointsman.yaml")


def test_running_up_ignores_an_up_whose_process_has_gone(folder):
    write_up(folder, pid=a_dead_pid())
    assert running_up() is None
    assert config_path() == Path("pointsman.yaml")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "null", '{"pid": 99999999999999999999}'])
def test_running_up_ignores_a_file_that_is_not_an_up_file(folder, text):
    (folder / "up.json").write_text(text)
    assert running_up() is None


def test_running_up_has_its_addresses(folder):
    write_up(folder, http="http://127.0.0.1:8080", flower="http://127.0.0.1:5555")
    up = running_up()
    assert up is not None
    assert (up.pid, up.http, up.flower) == (os.getpid(), "http://127.0.0.1:8080", "http://127.0.0.1:5555")


def test_redis_url_is_the_one_of_the_state_directory(folder):
    assert state_dir() == folder
    (folder / "redis.url").write_text("unix:///somewhere/valkey.sock\n")
    assert redis_url() == "unix:///somewhere/valkey.sock"


def test_hide_password_removes_the_password():
    assert hide_password("redis://:secret@host:6379/0") == "redis://host:6379/0"
    assert hide_password("rediss://me:secret@host/0") == "rediss://host/0"
    assert hide_password("redis://host:1/0?password=secret") == "redis://host:1/0"
    assert hide_password("unix:///run/valkey.sock") == "unix:///run/valkey.sock"
