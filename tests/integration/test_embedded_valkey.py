"""The embedded Valkey server, as a process: what it keeps, what it hides, how it starts and ends."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import redis

from ops.embedded.valkey import ValkeyServer
from tasks.contract.errors import ConfigError, Unreachable
from tasks.queue.address import ADDRESS_FILE
from tests.harness import REPOSITORY, wait_for

#: A process that owns a server, prints its URL and pid, and never stops it.
OWNER = """
import sys, threading
from pathlib import Path
from ops.embedded.valkey import ValkeyServer
server = ValkeyServer(Path(sys.argv[1]))
server.start()
print(server.url, server.pid, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def state_dir(tmp_path):
    return tmp_path / "state"


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def find_url(state_dir: Path) -> str | None:
    """The address of the server that holds the lock of this directory; None if it is free or was never taken."""
    try:
        lock = os.open(state_dir / "server.lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return (state_dir / ADDRESS_FILE).read_text().strip()
    finally:
        os.close(lock)
    return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is not our child; one that ended but was not reaped counts as gone."""

    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_for(gone, f"end of process {pid}")


def start_owner(state_dir: Path) -> tuple[subprocess.Popen[str], str, int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state_dir)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    assert select.select([owner.stdout], [], [], 30)[0], "the owner did not start its server"
    url, pid = owner.stdout.readline().split()
    return owner, url, int(pid)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_server_answers_on_a_unix_socket_in_its_state_directory(state_dir):
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        assert server.url == f"unix://{state_dir}/valkey.sock"
        assert find_url(state_dir) == server.url
        assert client.info("server")["process_id"] == server.pid
        assert client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "port") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
            "port": "0",
        }


def test_server_on_a_port_needs_a_password_that_outlives_a_restart(state_dir):
    # given
    port = free_port()
    server = ValkeyServer(state_dir, port=port)

    # when
    server.start()
    url = server.url
    with connect(f"redis://127.0.0.1:{port}/0") as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with connect(url) as client:
        assert client.set("job", "accepted")
    server.stop()

    # then
    with ValkeyServer(state_dir, port=port) as again, connect(url) as client:
        assert again.url == url
        assert client.get("job") == "accepted"


def test_data_survive_kill_9(state_dir):
    # given
    server = ValkeyServer(state_dir)
    server.start()
    with connect(server.url) as client:
        client.rpush("jobs", *range(1000))

    # when
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait(10) == -signal.SIGKILL
    assert find_url(state_dir) is None
    server.start()

    # then
    with connect(server.url) as client:
        assert client.llen("jobs") == 1000
    server.stop()


def test_server_starts_on_a_log_that_a_power_loss_cut_off(state_dir):
    # given
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        client.set("first", "x" * 100)
        client.set("last", "y" * 100)
    log = next((state_dir / "appendonlydir").glob("*.incr.aof"))
    os.truncate(log, log.stat().st_size - 50)

    # when / then
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        assert client.get("first") == "x" * 100
        assert client.get("last") is None


def test_corrupt_log_is_named_with_a_remedy_that_works(state_dir, tmp_path):
    # given
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        client.set("before", "it")
        client.set("damaged", "x" * 100)
    log = next((state_dir / "appendonlydir").glob("*.incr.aof"))
    log.write_bytes(log.read_bytes().replace(b"$100", b"?100"))

    # when
    server = ValkeyServer(state_dir)
    with pytest.raises(Unreachable) as caught:
        server.start()

    # then
    assert str(server.log_path) in str(caught.value)
    assert find_url(state_dir) is None

    # when: the remedy is followed to the letter
    remedy = str(caught.value).partition("first error: ")[2]
    subprocess.run(["sh", "-c", remedy], cwd=tmp_path, input=b"y\n", check=True, capture_output=True)

    # then
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        assert client.keys() == ["before"]


@pytest.mark.parametrize("file", ["*.base.rdb", "*.manifest"])
def test_data_beyond_repair_are_named_and_no_process_stays(state_dir, file):
    # given
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        client.set("job", "accepted")
    next((state_dir / "appendonlydir").glob(file)).write_bytes(b"garbage" * 10)

    # when / then
    with pytest.raises(Unreachable, match=r"can't be read.*make a copy of that folder") as caught:
        ValkeyServer(state_dir).start()
    assert "--fix" not in str(caught.value)
    assert find_url(state_dir) is None


def test_port_in_use_is_named_with_its_remedy(state_dir):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = ValkeyServer(state_dir, port=port)
        with pytest.raises(ConfigError, match=f"port {port} is in use .*choose another") as caught:
            server.start()
        assert str(server.log_path) in str(caught.value)


def test_files_are_private_and_arguments_hold_no_secret(state_dir):
    with ValkeyServer(state_dir, port=free_port()) as server, connect(server.url) as client:
        client.set("job", "accepted")
        password = (state_dir / "password").read_text()

        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        for path in state_dir.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_socket_is_private(state_dir):
    with ValkeyServer(state_dir):
        assert stat.S_IMODE((state_dir / "valkey.sock").stat().st_mode) == 0o700


def test_directory_that_others_can_write_to_is_refused(state_dir):
    state_dir.mkdir()
    state_dir.chmod(0o777)
    with pytest.raises(ConfigError, match="not private"):
        ValkeyServer(state_dir).start()


def test_long_or_odd_path_keeps_its_address_over_a_restart(tmp_path):
    # given
    state_dir = tmp_path / ("long" * 30) / 'with "quotes", spaces and ümläuts'

    # when
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        client.set("job", "accepted")
        url = server.url
        assert find_url(state_dir) == url
        folder = Path(url.removeprefix("unix://")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    # then
    with ValkeyServer(state_dir), connect(url) as client:
        assert client.get("job") == "accepted"
    folder.rmdir()  # nothing is left in it


def test_stop_leaves_no_process_and_no_address_and_may_be_called_again(state_dir):
    # given
    server = ValkeyServer(state_dir)
    server.start()
    pid = server.pid

    # when
    server.stop()
    server.stop()

    # then
    assert not psutil.pid_exists(pid)
    assert find_url(state_dir) is None
    with pytest.raises(redis.ConnectionError), connect(server.url) as client:
        client.ping()


def test_server_that_does_not_react_is_killed_in_time(state_dir):
    # given
    server = ValkeyServer(state_dir)
    server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)

    # when
    server.stop(timeout=0.2)

    # then
    assert not psutil.pid_exists(pid)


def test_directory_of_a_living_owner_is_refused_and_its_server_goes_on(state_dir):
    with ValkeyServer(state_dir) as server, connect(server.url) as client:
        with pytest.raises(ConfigError, match=f"process {os.getpid()} runs a server"):
            ValkeyServer(state_dir).start()
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of the parent")
def test_server_ends_when_its_owner_is_killed(state_dir):
    # given
    owner, _, pid = start_owner(state_dir)

    # when
    end(owner)

    # then
    wait_until_gone(pid)
    # A thread of the server may hold the lock a moment longer than its process shows.
    wait_for(lambda: find_url(state_dir) is None, "the lock to be free")


def test_leftover_server_is_ended_before_the_next_starts(state_dir):
    # given: it can't end with its owner, because it is stopped at that moment
    owner, url, pid = start_owner(state_dir)
    with connect(url) as client:
        client.set("job", "accepted")
    os.kill(pid, signal.SIGSTOP)
    end(owner)
    assert find_url(state_dir) == url

    # when
    waker = threading.Timer(0.3, os.kill, (pid, signal.SIGCONT))
    waker.start()
    server = ValkeyServer(state_dir)
    server.start()
    waker.join()

    # then
    wait_until_gone(pid)
    with connect(server.url) as client:
        assert client.get("job") == "accepted"
    server.stop()


def test_leftover_server_that_never_ends_is_an_error_in_time(state_dir):
    # given
    owner, _, pid = start_owner(state_dir)
    os.kill(pid, signal.SIGSTOP)
    end(owner)

    # when / then
    with pytest.raises(Unreachable, match="left over"):
        ValkeyServer(state_dir).start(timeout=0.2)
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)


def test_server_started_from_a_thread_outlives_that_thread(state_dir):
    # given
    server = ValkeyServer(state_dir)
    starter = threading.Thread(target=server.start)

    # when
    starter.start()
    starter.join()

    # then
    assert server.wait(0.3) is None
    with connect(server.url) as client:
        assert client.ping()
    server.stop()


def test_server_is_out_of_reach_of_ctrl_c(state_dir):
    with ValkeyServer(state_dir) as server:
        assert os.getsid(server.pid) == server.pid
        assert os.getpgid(server.pid) == server.pid


def test_find_binary_imports_no_second_redis_client():
    code = "import sys, ops.embedded.valkey as v; v.find_binary(); print([m for m in sys.modules if m[:6] == 'valkey'])"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
