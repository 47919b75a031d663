"""A simulated model that a test stops, slows down and starts again."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Self

from tests import forked
from tests.harness import wait_for


class Server:
    """A simulated model on a port of its own, which a test may stop and start with another latency."""

    def __init__(self, folder: Path, name: str, *, latency: float) -> None:
        self._latency = latency
        self.name = name
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._process: forked.Process | None = None
        self._starts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def serve(self, *, latency: float) -> None:
        """Start or restart the server, with `latency` in seconds."""
        self.stop()
        self._starts += 1
        models = self._folder / f"{self.name}-{self._starts}.json"
        models.write_text(json.dumps({self.name: {"latency": latency}}))
        ready = models.with_suffix(".ready")
        command = ["--models", str(models), "--port", str(self._port), "--ready-file", str(ready)]
        self._process = forked.start("ops.embedded.simulated", *command, env=os.environ)
        wait_for(ready.exists, f"start of {self.name}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.serve(latency=self._latency)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
