"""Child processes that are kept: started, restarted when they die, and ended with their parent, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

__all__ = ["Child", "stop_all"]

#: Seconds before a child that died is started again: doubled each time, back to the first once it ran that long.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
#: Seconds that a child has to end once it was told to let go of what it does.
INSIST = 3.0
#: Bytes: a log above this is put aside when its process starts.
MOST_LOG = 10 * 1024 * 1024

#: On Linux the kernel ends a child when its parent dies, even by ``kill -9``. It asks for that itself, after the
#: fork: nothing of ours runs between fork and exec.
_LAUNCH = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, ctypes.c_ulong(15))
    if os.getppid() != int(parent):
        sys.exit("the parent has gone")
os.execv(command[0], command)
"""


class Child:
    """One process that shall run. `ready` is a file that it writes once it answers."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, ready: Path | None = None
    ) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self._command = [sys.executable, "-S", "-c", _LAUNCH, str(os.getpid()), *command]
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
        """None while it runs, or before it was started."""
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
            # A session of its own: Ctrl-C in the terminal reaches the parent alone, who ends its children in order.
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started = time.monotonic()

    def keep(self) -> bool:
        """Start it again if it died and its pause is over; True if it had to."""
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

    def tell(self, sign: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(sign)

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self._process is not None and self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
            self._process.wait()

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def stop_all(
    children: Sequence[Child], *, grace: float, hurry: Event | None = None, insist: signal.Signals | None = None
) -> list[str]:
    """End children: ask all, wait up to `grace` seconds in all, kill the rest; returns the names of the killed.

    With `insist` the rest gets that signal first, and `INSIST` seconds to obey.
    """
    for child in children:
        child.tell()
    waiting = _wait(children, grace, hurry)
    if insist is not None and waiting and not (hurry is not None and hurry.is_set()):
        for child in waiting:
            child.tell(insist)
        waiting = _wait(waiting, INSIST, hurry)
    for child in waiting:
        child.kill()
    return [child.name for child in waiting]


def _wait(children: Sequence[Child], seconds: float, hurry: Event | None) -> list[Child]:
    """Those that still run after so many seconds, or when somebody is in a hurry."""
    end = time.monotonic() + seconds
    waiting = [child for child in children if child.pid is not None]
    while waiting and time.monotonic() < end and not (hurry is not None and hurry.is_set()):
        waiting = [child for child in waiting if child.exit_code is None]
        time.sleep(0.02)
    return waiting
