"""Record which files of ours a module executes between two signals: ``python -m tests.traced OUT MODULE …``.

The first SIGUSR2 starts the record and makes the file OUT.recording; the second ends it and writes OUT.files, one file
a line.
"""

from __future__ import annotations

import runpy
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Self

__all__ = ["Recorder"]

REPOSITORY = Path(__file__).resolve().parents[1]
#: The sweeper and the rebalancer look at all jobs at their own times: they are no part of a job's way.
UPKEEP = frozenset(str(REPOSITORY / "worker" / name) for name in ("sweeper.py", "rebalancer.py"))
ROOMS = tuple(f"{REPOSITORY / room}/" for room in ("producer", "tasks", "worker", "ops"))


class Recorder:
    """Records the files whose functions are called while it is entered, in the threads that started meanwhile or after
    `install`, greenlets included.
    """

    def __init__(self) -> None:
        self._on = False
        self._files: set[str] = set()

    def install(self) -> None:
        """Watch this thread, and each thread that starts from now on."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def __enter__(self) -> Self:
        self._files.clear()
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False

    @property
    def files(self) -> list[str]:
        """The recorded files, relative to the repository, sorted."""
        return sorted(str(Path(name).relative_to(REPOSITORY)) for name in self._files)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if not self._on or event != "call" or code.co_name == "<module>" or not code.co_filename.startswith(ROOMS):
            return
        if code.co_filename not in self._files and not _is_upkeep(frame):
            self._files.add(code.co_filename)


def _is_upkeep(frame: FrameType | None) -> bool:
    """Whether a call is one of the regular looks at all jobs, which happen to fall into a record."""
    while frame is not None:
        if frame.f_code.co_filename in UPKEEP:
            return True
        frame = frame.f_back
    return False


def _main(out: str, module: str) -> None:
    recorder = Recorder()
    entered = False

    def toggle(*_: Any) -> None:
        nonlocal entered
        if not entered:
            entered = True
            recorder.__enter__()
            Path(f"{out}.recording").touch()
            return
        recorder.__exit__()
        draft = Path(f"{out}.draft")
        draft.write_text("\n".join(recorder.files))
        draft.rename(f"{out}.files")

    signal.signal(signal.SIGUSR2, toggle)
    recorder.install()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
