"""What `pointsman doctor` makes of what it finds."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import pytest

from ops.cli.cmd_doctor import (
    CheckResult,
    check_config,
    check_extras,
    check_keys,
    check_port,
    check_python,
    check_server,
    check_state_dir,
    check_workers_of,
)
from ops.up.processes import Running
from tasks.config.config import Config
from tasks.loading.load import parse

GOOD = {"redis_version": "7.2.4", "valkey_version": "9.1.2", "maxmemory-policy": "noeviction", "appendonly": "yes"}


def a_config(model: str = "provider: simulated") -> Config:
    return parse(f"models: {{fast: {{{model}}}}}\nroutes: {{all: {{models: [fast]}}}}\ndefault_route: all\n")


def levels(findings: Iterable[CheckResult]) -> list[str]:
    return [finding.level for finding in findings]


def test_check_server_accepts_a_server_with_the_right_settings():
    found = check_server("here", GOOD)
    assert levels(found) == ["ok", "ok", "ok"]
    assert found[0].text == "Valkey 9.1.2 at here"


def test_check_server_fails_an_old_server():
    (found,) = check_server("here", {"redis_version": "6.2.14"})
    assert found.level == "fail"
    assert "Redis 7" in found.remedy


@pytest.mark.parametrize(("memory", "level"), [("0", "warn"), ("1000000", "fail")])
def test_check_server_reports_a_server_that_may_evict_jobs(memory, level):
    found = check_server("here", {**GOOD, "maxmemory-policy": "allkeys-lru", "maxmemory": memory})
    assert levels(found) == ["ok", level, "ok"]
    assert "noeviction" in found[1].remedy


def test_check_server_uses_figures_if_settings_are_hidden():
    hidden = {**GOOD, "maxmemory-policy": "", "appendonly": "", "maxmemory_policy": "noeviction", "aof_enabled": "1"}
    assert levels(check_server("here", hidden)) == ["ok", "ok", "ok"]


def test_check_server_warns_without_an_append_only_file():
    assert levels(check_server("here", {**GOOD, "appendonly": "no"})) == ["ok", "ok", "warn"]


def test_check_workers_of_fails_a_queue_without_a_worker():
    found = check_workers_of(("fast", "slow"), frozenset({"route", "join", "model.fast"}))
    assert levels(found) == ["ok", "ok", "fail"]
    assert "model.slow" in found[2].remedy


def test_check_keys_fails_a_missing_key_and_never_shows_a_set_one(monkeypatch):
    config = a_config("provider: openai, base_url: 'http://127.0.0.1:1/v1', api_key_env: SOME_KEY")
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert levels(check_keys(config)) == ["fail"]
    monkeypatch.setenv("SOME_KEY", "secret-value")
    (found,) = check_keys(config)
    assert found.level == "ok"
    assert "secret-value" not in repr(found)


@pytest.mark.parametrize(("provider", "variable"), [("anthropic", "ANTHROPIC_API_KEY"), ("gemini", "GEMINI_API_KEY")])
def test_check_keys_names_providers_that_need_a_key(monkeypatch, provider, variable):
    monkeypatch.delenv(variable, raising=False)
    (found,) = check_keys(a_config(f"provider: {provider}, model: m"))
    assert found.level == "fail"
    assert found.remedy == f"add api_key_env: {variable} to models.fast, and set that variable"
    (found,) = check_keys(a_config(f"provider: {provider}, model: m, api_key_env: {variable}"))
    assert (found.level, found.text) == ("fail", f"{variable} is not set (for fast)")
    assert f"set {variable}, or {variable}_FILE" in found.remedy
    # A gateway may have the key itself.
    assert check_keys(a_config(f"provider: {provider}, base_url: 'http://127.0.0.1:1'")) == []


def test_check_keys_fails_a_missing_key_file(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "nothing"))
    config = a_config("provider: openai, base_url: 'http://127.0.0.1:1/v1', api_key_env: SOME_KEY")
    assert levels(check_keys(config)) == ["fail"]


def test_check_extras_fails_only_if_a_model_needs_the_extra(monkeypatch):
    monkeypatch.setattr("ops.embedded.local.is_installed", lambda: False)
    assert check_extras(a_config())[0].level == "ok"
    asked = check_extras(a_config("provider: local"))[0]
    assert asked.level == "fail"
    assert "pointsman[local]" in asked.remedy


def test_check_config_fails_with_each_problem(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("models: {fast: {provider: simulated, capacity: 0, bogus: 1}}\nroutes: {}\ndefault_route: x\n")
    config, found = check_config(file)
    assert config is None
    assert set(levels(found)) == {"fail"}
    assert len(found) > 1


def test_check_python_fails_an_old_or_a_too_new_one():
    assert check_python((3, 11)).level == "ok"
    assert check_python((3, 10)).level == "fail"
    assert check_python((3, 15)).level == "fail"


def test_check_state_dir_fails_if_others_can_change_it(tmp_path):
    assert check_state_dir(tmp_path / "not" / "yet").level == "ok"
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    assert check_state_dir(folder).level == "ok"
    folder.chmod(0o777)
    found = check_state_dir(folder)
    assert found.level == "fail"
    assert "chmod 700" in found.remedy
    assert not (tmp_path / "not").exists()


def test_check_port_warns_of_a_port_in_use_unless_it_is_ours():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert check_port(port, "HTTP", None).level == "warn"
        up = Running(os.getpid(), http=f"http://127.0.0.1:{port}")
        assert check_port(port, "HTTP", up).level == "ok"
    assert check_port(port, "HTTP", None).level == "ok"
