"""The file in the state directory that describes a running `pointsman up`, for the other commands."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["UP_FILE", "Running", "read_running", "write_running"]

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
    from ops.embedded.state_dir import write_private

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
