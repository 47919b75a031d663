"""`python -m MODULE` without the second of imports: forked from a process that has imported the libraries already.

A test's worker is a process of its own either way, and imports, configures and measures all code of this repository
itself; it inherits only loaded libraries. The suite starts some two hundred workers: their imports of Celery,
redis, aiohttp and their like took a third of its time. On systems other than Linux, and for settings of the
interpreter itself, a process is started the ordinary way.

One such server a test run: it takes requests, one datagram each, on the socket that is its standard input. With a
request come four descriptors: the standard streams, and a pipe on which it reports the pid and then the exit code,
a line each. It ends with all its forked processes once the socket is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["Forked", "Process", "run", "start"]

REPOSITORY = Path(__file__).resolve().parents[1]
#: The libraries that workers, the server of simulated models and the command line import.
LIBRARIES = (
    "aiohttp",
    "billiard.pool",
    "celery.app.control",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.worker.autoscale",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "click_repl",
    "coverage",
    "flower.command",  # `celery` loads it for every command: it is a plugin
    "greenlet",
    "hiredis",
    "httpx",
    "jinja2.sandbox",
    "jsonschema",
    "kombu.pidbox",
    "kombu.transport.redis",
    "numpy",
    "prometheus_client",
    "pydantic.main",
    "pydantic.type_adapter",
    "re2",
    "redis.asyncio",
    "rich.traceback",
    "starlette.applications",
    "starlette.routing",
    "structlog",
    "typer",
    "typer.completion",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "yaml",
)
#: Longest request, in bytes: a command and an environment. Linux takes datagrams of some 200 kB.
LONGEST = 160_000
#: Variables that start the measurement of coverage where an interpreter starts.
MEASURES = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
#: Beginnings of variables that are read before our code runs: by the interpreter, and by Celery where it is imported.
READ_EARLY = ("PYTHON", "USE_FAST_LOCALS")
#: The settings of these variables that a forked process can adopt.
TAKEN_ON = {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error"}


class Forked:
    """A forked process, as `subprocess.Popen` shows one; for one thread at a time."""

    def __init__(self, command: Sequence[str], reports: int) -> None:
        self.args = command
        self.returncode: int | None = None
        self._reports = os.fdopen(reports, "rb", buffering=0)
        self.pid = int(self._line(None))

    def _line(self, within: float | None) -> bytes:
        """Return the next report; nothing if none comes `within` seconds (None waits without end)."""
        if not select.select([self._reports], [], [], within)[0]:
            return b""
        line = self._reports.readline()
        assert line.endswith(b"\n"), f"the server of {__name__} has ended; see standard error"
        return line

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            line = self._line(timeout)
            if not line:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(line)
            self._reports.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # It may have ended since; the system does not reuse its number so soon.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Forked | subprocess.Popen[bytes]


def start(module: str, *words: str, env: Mapping[str, str], output: IO[bytes] | None = None) -> Process:
    """Start `python -m module words` in the repository; `output` takes both its streams (None: ours)."""
    if _can_fork(env):
        with Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), *([output.fileno()] * 2 if output else (1, 2)))
            return _fork([module, *words], env, REPOSITORY, streams)
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output and subprocess.STDOUT, cwd=REPOSITORY,
    )  # fmt: skip


def run(
    module: str, *words: str, env: Mapping[str, str], cwd: Path, stdin: str = "", timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module words` in `cwd`, and return its exit code and output, as `subprocess.run` does.

    Raises:
        subprocess.TimeoutExpired: it ran longer than `timeout` seconds, and was killed.
    """
    if not _can_fork(env):
        command = [sys.executable, "-m", module, *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=timeout
        )
    with tempfile.TemporaryFile() as text_, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        text_.write(stdin.encode())
        text_.seek(0)
        process = _fork([module, *words], env, cwd, (text_.fileno(), out.fileno(), err.fileno()))
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([module, *words], code, out.read().decode(), err.read().decode())


def _can_fork(env: Mapping[str, str]) -> bool:
    early = {name: value for name, value in env.items() if name.startswith(READ_EARLY)}
    return sys.platform == "linux" and all(
        value in {os.environ.get(name), TAKEN_ON.get(name)} for name, value in early.items()
    )


def _fork(command: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> Forked:
    reports, report = os.pipe()
    try:
        request = json.dumps([command, dict(env), str(cwd)]).encode()
        assert len(request) < LONGEST, f"the command and environment of {command[0]} take {len(request)} bytes"
        socket.send_fds(_server(), [request], [*streams, report])
    finally:
        os.close(report)
    return Forked(command, reports)


@functools.cache
def _server() -> socket.socket:
    """The socket of this process's server, which is started at the first call and ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A forked process starts its own measurement.
    env = {name: value for name, value in os.environ.items() if name not in MEASURES}
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=theirs.fileno(), env=env, cwd=REPOSITORY)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# -- in the server -------------------------------------------------------------------------------------------------


def _serve() -> bytes:
    """Fork a process for each request. Returns only in the forked processes, with the request."""
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the test run's; this ends with it
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ends(running)
        if requests.fileno() not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, LONGEST, 4)
        if not message:
            _end_all(running)
            sys.exit()
        *streams, report = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            requests.close()
            for descriptor in (*descriptors, woken, wakes, *running.values()):
                os.close(descriptor)
            return message
        for stream in streams:
            os.close(stream)
        running[pid] = report
        os.write(report, b"%d\n" % pid)


def _report_ends(running: dict[int, int]) -> None:
    """Report the exit code of each process that has ended."""
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            report = running.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # the test does not read it any more
                os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(report)


def _end_all(running: Mapping[int, int]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _become(request: bytes) -> None:
    """Run the requested `python -m …` in this process, until its end."""
    command, env, cwd = json.loads(request)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    time.tzset()
    if any(name in env for name in MEASURES):
        import coverage  # noqa: PLC0415 - only if requested

        coverage.process_startup()
    if env.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def _main() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's would be threads of this process, which a forked one lacks
    for name in LIBRARIES:
        importlib.import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a library has started a thread"
    gc.collect()
    gc.freeze()  # collections in forked processes leave shared objects alone
    _become(_serve())


if __name__ == "__main__":
    _main()
