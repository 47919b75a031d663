"""Record which files of ours a module executes between two signals: ``python -m tests.traced OUT MODULE …``.

SIGUSR2 starts the record; a second one writes it to OUT, one file a line, and ends it.
"""

from __future__ import annotations

import runpy
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Recorder"]

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = tuple(f"{REPOSITORY / room}/" for room in ("producer", "tasks", "worker", "ops"))


class Recorder:
    """Notes the files whose functions are called while it is on, in all threads and greenlets of this process."""

    def __init__(self) -> None:
        self.on = False
        self._files: set[str] = set()

    def install(self) -> None:
        """Watch this thread, and each thread that starts from now on."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def take(self) -> list[str]:
        """End the record and return it: paths relative to the repository, sorted."""
        self.on = False
        noted, self._files = self._files, set()
        return sorted(str(Path(name).relative_to(REPOSITORY)) for name in noted)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call":
            code = frame.f_code
            if code.co_name != "<module>" and code.co_filename.startswith(ROOMS):
                self._files.add(code.co_filename)


def _main(out: Path, module: str) -> None:
    recorder = Recorder()

    def toggle(*_: Any) -> None:
        if not recorder.on:
            recorder.on = True
            return
        part = out.with_suffix(".part")
        part.write_text("\n".join(recorder.take()))
        part.rename(out)

    signal.signal(signal.SIGUSR2, toggle)
    recorder.install()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
