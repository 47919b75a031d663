"""The address of Redis, and its forms for Celery."""

from __future__ import annotations

import pytest

from tasks.contract.errors import ConfigError
from tasks.queue.address import ADDRESS_FILE, DEFAULT_REDIS, broker_url, redis_url, result_url, state_dir


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("POINTSMAN_REDIS_URL", "POINTSMAN_REDIS_URL_FILE", "POINTSMAN_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_redis_url_defaults_to_loopback():
    assert redis_url() == DEFAULT_REDIS


def test_redis_url_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("POINTSMAN_REDIS_URL", "rediss://host:6380/1")
    assert redis_url() == "rediss://host:6380/1"


def test_redis_url_may_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("redis://:password@host:6379/0\n")
    monkeypatch.setenv("POINTSMAN_REDIS_URL_FILE", str(tmp_path / "secret"))
    assert redis_url() == "redis://:password@host:6379/0"


def test_redis_url_of_the_embedded_server_is_in_the_state_directory(tmp_path):
    folder = tmp_path / "pointsman"
    folder.mkdir()
    (folder / ADDRESS_FILE).write_text("unix:///run/x.sock\n")
    assert redis_url() == "unix:///run/x.sock"


def test_redis_url_of_the_environment_beats_the_embedded_server(monkeypatch, tmp_path):
    (tmp_path / ADDRESS_FILE).write_text("unix:///run/x.sock")
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(tmp_path))
    assert redis_url() == "unix:///run/x.sock"
    monkeypatch.setenv("POINTSMAN_REDIS_URL", "redis://elsewhere:1/0")
    assert redis_url() == "redis://elsewhere:1/0"


def test_redis_url_of_another_scheme_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("POINTSMAN_REDIS_URL", "amqp://user:password@host")
    with pytest.raises(ConfigError, match=r"^POINTSMAN_REDIS_URL: must start with redis://") as caught:
        redis_url()
    assert "password" not in str(caught.value)


def test_state_dir_comes_from_the_environment(monkeypatch, tmp_path):
    assert state_dir() == tmp_path / "pointsman"
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(tmp_path / "mine"))
    assert state_dir() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("url", "ours", "celery"),
    [
        ("redis://user:word@host:1/2", "pointsman://user:word@host:1/2", "redis://user:word@host:1/2"),
        ("rediss://host:1/2", "pointsmans://host:1/2", "rediss://host:1/2"),
        ("unix:///run/x.sock", "pointsman+socket:///run/x.sock", "redis+socket:///run/x.sock"),
        (
            "unix:///run/x.sock?db=3",
            "pointsman+socket:///run/x.sock?virtual_host=3",
            "redis+socket:///run/x.sock?virtual_host=3",
        ),
    ],
)
def test_broker_and_result_urls_have_the_forms_of_celery(monkeypatch, url, ours, celery):
    assert (broker_url(url), result_url(url)) == (ours, celery)
    monkeypatch.setenv("POINTSMAN_TRANSPORT", "kombu")
    assert broker_url(url) == celery


def test_broker_url_refuses_an_unknown_transport(monkeypatch):
    monkeypatch.setenv("POINTSMAN_TRANSPORT", "amqp")
    with pytest.raises(ConfigError, match=r"^POINTSMAN_TRANSPORT: 'amqp' is not known; allowed: pointsman, kombu"):
        broker_url("redis://host:1/0")
