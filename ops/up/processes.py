"""Child processes: started, restarted when they die, and ended with their parent; and pools of them.

Also the file in the state directory that describes a running `pointsman up` for the other commands.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ops.embedded.server_process import end_with_parent
from ops.embedded.state_dir import write_private

#: Seconds before a dead child is started again. They double each time, until a child has run for the longest pause.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
#: Seconds that a child has to end after the second signal.
INSIST = 3.0
#: Bytes. A longer log is renamed to `.old` when its process starts.
MOST_LOG = 10 * 1024 * 1024


class Child:
    """One process that is kept running. `ready` is a file that it writes once it answers."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, ready: Path | None = None
    ) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self._command = end_with_parent(command)
        self._env = {**os.environ, **env}
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """None while the process runs, and before it was started."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_ready(self) -> bool:
        return self.exit_code is None and (self._ready is None or self._ready.exists())

    def start(self) -> None:
        if self._ready is not None:
            self._ready.unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > MOST_LOG:
            self.log.replace(self.log.with_suffix(".old"))
        with self.log.open("ab") as out:
            # In a session of its own: Ctrl-C in the terminal reaches only the parent, which ends its children in order.
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started = time.monotonic()

    def restart_if_dead(self) -> bool:
        """Start a dead process again after its pause; return whether it was started."""
        if self.exit_code is None:
            return False
        lived = time.monotonic() - self._started
        if lived > LONGEST_PAUSE:
            self._pause = FIRST_PAUSE
        if lived < self._pause:
            return False
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.restarts += 1
        self.start()
        return True

    def send_signal(self, sign: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sign)

    def kill(self) -> None:
        """End the process and its children, at once."""
        if self._process is not None and self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
            self._process.wait()

    def last_words(self, lines: int = 5) -> str:
        """Return the last lines of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def stop_all(
    children: Sequence[Child], *, grace: float, now: Event | None = None, insist: signal.Signals | None = None
) -> list[str]:
    """End children: signal all, wait up to `grace` seconds, kill the rest; return the names of the killed ones.

    With `insist` the rest gets that signal first, and `INSIST` seconds. An event `now` ends all waiting.
    """
    for child in children:
        child.send_signal()
    waiting = _wait(children, grace, now)
    if insist is not None and waiting and not (now is not None and now.is_set()):
        for child in waiting:
            child.send_signal(insist)
        waiting = _wait(waiting, INSIST, now)
    for child in waiting:
        child.kill()
    return [child.name for child in waiting]


def _wait(children: Sequence[Child], seconds: float, now: Event | None) -> list[Child]:
    """Return the children that still run after so many seconds, or once `now` is set."""
    end = time.monotonic() + seconds
    waiting = [child for child in children if child.pid is not None]
    while waiting and time.monotonic() < end and not (now is not None and now.is_set()):
        waiting = [child for child in waiting if child.exit_code is None]
        time.sleep(0.02)
    return waiting


#: Calls in flight of one process. A second process can use a second core.
MOST_CALLS = 2_000


class WorkerPool:
    """One model's worker processes. `scale` brings them to a total of calls in flight, by whole processes.

    A pool that shrinks drains processes first, and starts the remainder after they have ended: in between it is smaller
    than requested, never larger. A process keeps its number of calls over restarts.
    """

    def __init__(self, model: str, start_worker: Callable[[str, str, int], Child]) -> None:
        """`start_worker` starts a process by its name, its queues and its calls in flight."""
        self.model = model
        self._start_worker = start_worker
        self._working: list[tuple[Child, int]] = []
        self.draining: list[Child] = []
        self._started = 0

    @property
    def children(self) -> list[Child]:
        """The working processes. A draining process is not among them: it is not started again."""
        return [child for child, _ in self._working]

    @property
    def calls(self) -> int:
        """The calls in flight that the working processes can hold."""
        return sum(calls for _, calls in self._working)

    def scale(self, total: int) -> None:
        """Take one step towards `total` calls in flight; never waits, so it is called repeatedly."""
        self.draining = [child for child in self.draining if child.exit_code is None]
        while self.calls > total:
            child, _ = self._working.pop()
            child.send_signal()
            self.draining.append(child)
        if self.draining:
            return
        while self.calls < total:
            calls = min(total - self.calls, MOST_CALLS)
            self._started += 1
            child = self._start_worker(f"{self.model}-{self._started}", f"model.{self.model}", calls)
            self._working.append((child, calls))


UP_FILE = "up.json"


@dataclass(frozen=True, slots=True)
class Running:
    """A running `pointsman up`: its process, its configuration, its addresses without passwords."""

    pid: int
    config: str | None = None
    http: str | None = None
    flower: str | None = None
    redis: str | None = None


def write_running(state_dir: Path, running: Running) -> None:
    fields = {name: getattr(running, name) for name in Running.__slots__}
    write_private(state_dir / UP_FILE, json.dumps(fields | {"started_at": time.time()}))


def read_running(state_dir: Path) -> Running | None:
    """Return the `pointsman up` of a state directory; None if there is none, or its process is gone."""
    try:
        fields = json.loads((state_dir / UP_FILE).read_text(encoding="utf-8"))
        pid = int(fields["pid"])
        os.kill(pid, 0)
    except PermissionError:
        pass  # it runs, under another user
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return Running(pid, *(fields.get(name) for name in Running.__slots__[1:]))
