"""The guard: keys, addresses and host names, decided from headers alone."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from producer.api.auth import KEYS_FILE, RequestGuard, read_keys
from tasks.contract.errors import ConfigError
from tasks.queue.address import is_loopback

DIGEST = hashlib.sha256(b"right").hexdigest()


def scope(path="/jobs", **headers) -> dict[str, Any]:
    return {"path": path, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


@pytest.fixture
def keyed(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the billing service\n\nsha256:{'0' * 64}\nsha256:{DIGEST.upper()}  # ours\n")
    return RequestGuard.for_address("0.0.0.0", "0.0.0.0", {KEYS_FILE: str(file)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost", "LocalHost:9", "localhost.:9", "[::1]:80"])
def test_guard_without_keys_accepts_every_name_of_this_machine(host):
    assert RequestGuard(()).check(scope(host=host)) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.0.2.1", "", "[::2]"]
)
def test_guard_without_keys_refuses_other_names(host):
    problem = RequestGuard(()).check(scope(host=host))

    assert problem is not None
    assert problem.status == 421


def test_guard_without_keys_refuses_a_missing_or_second_host():
    assert RequestGuard(()).check({"path": "/", "headers": []}) is not None
    two = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert RequestGuard(()).check({"path": "/", "headers": two}) is not None


def test_guard_accepts_the_right_key_with_any_host(keyed):
    assert keyed.check(scope(host="pointsman.example", authorization="Bearer right")) is None
    assert keyed.check(scope(authorization="bearer right")) is None


@pytest.mark.parametrize("given", [None, "", "right", "Bearer", "Bearer wrong", "Bearer right2", f"Bearer {DIGEST}"])
def test_guard_refuses_anything_but_the_right_key(keyed, given):
    problem = keyed.check(scope() if given is None else scope(authorization=given))

    assert problem is not None
    assert problem.status == 401
    assert problem.headers["www-authenticate"] == "Bearer"


def test_guard_accepts_the_key_as_a_password_for_the_console_alone(keyed):
    basic = "Basic " + base64.b64encode(b"me:right").decode()

    assert keyed.check(scope("/", authorization=basic)) is None
    assert keyed.check(scope("/jobs", authorization=basic)).status == 401
    assert keyed.check(scope("/", authorization="Basic %%%")).status == 401
    assert keyed.check(scope("/")).headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_guard_lets_probes_pass_without_key_or_name(keyed, path):
    assert keyed.check(scope(path)) is None
    assert RequestGuard(()).check(scope(path, host="10.0.0.7")) is None


def test_guard_for_an_address_that_others_reach_needs_keys():
    with pytest.raises(ConfigError, match=KEYS_FILE):
        RequestGuard.for_address("0.0.0.0", "0.0.0.0", {})
    assert RequestGuard.for_address("localhost", "127.0.0.1", {}).check(scope(host="localhost")) is None


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_read_keys_refuses_a_file_without_keys(tmp_path, text):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError, match="holds no key"):
        read_keys(tmp_path / "keys")


def test_read_keys_refuses_a_key_in_plain_text_and_does_not_quote_it(tmp_path):
    (tmp_path / "keys").write_text("# ours\nsk-very-secret\n")
    with pytest.raises(ConfigError, match=r"keys:2: ") as caught:
        read_keys(tmp_path / "keys")
    assert "secret" not in str(caught.value)


def test_read_keys_of_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=KEYS_FILE):
        read_keys(tmp_path / "none")


@pytest.mark.parametrize(("host", "is_it"), [("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("host", False)])
def test_is_loopback(host, is_it):
    assert is_loopback(host) is is_it
