"""All of Pointsman on one machine: what `pointsman up` starts, watches, scales and ends.

A broker (unless ``POINTSMAN_REDIS_URL`` names one), the embedded models that the configuration asks for, a router, a
pool of workers for each model, beat if there are schedules, the HTTP API and Flower. Each is a process with a log in
the state directory. What dies is started again; what was accepted is in the broker's append-only file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Self

from ops.embedded import local
from ops.embedded.server import ValkeyServer
from ops.embedded.state_dir import keep_password, make_private, try_lock, write_private
from ops.up.pools import Pool
from ops.up.processes import Child, stop_all
from tasks.config.config import Config
from tasks.config.secrets import read_secret
from tasks.config.simulation import Simulation
from tasks.contract.errors import ConfigError, PointsmanError, Unreachable
from tasks.loading.load import load

__all__ = ["UP_FILE", "Options", "Stack"]

#: In the state directory while `up` runs: where things are, for the other commands.
UP_FILE = "up.json"
#: Seconds that calls in flight have to end at a shutdown; what doesn't is run again after the next start.
GRACE = 10.0
#: Seconds until everything must answer after the start; a loaded laptop needs a good part of it.
START_TIMEOUT = 90.0
#: Jobs that the router works on at once. They wait for Redis most of the time, and share its round trips.
ROUTER_CALLS = 64
FLOWER_USER = "pointsman"
#: Tokens of a call to the local model, input and output together.
LOCAL_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Options:
    """`port` and `flower_port` may be 0 for any free one; None means no HTTP API, or no Flower."""

    config: Path
    state_dir: Path
    port: int | None = 8080
    flower_port: int | None = 5555
    say: Callable[[str], None] = lambda _text: None


class Stack:
    """Use as a context manager: entered when everything answers, left when nothing runs any more.

    Raises on entering:
        ConfigError: for a configuration with errors, a port or a state directory in use.
        Unreachable: if something does not come up in time; its log's last lines are in the message.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._say = options.say
        self.config: Config = load(options.config)
        self.stopping = Event()
        #: Set to stop without grace.
        self.hurry = Event()
        self._lock: int | None = None
        self._server: ValkeyServer | None = None
        self._services: list[Child] = []
        self._workers: list[Child] = []
        self.pools: dict[str, Pool] = {}
        self.http = ""
        self.flower = ""
        self.redis = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def children(self) -> list[Child]:
        return [*self._services, *self._workers, *(child for pool in self.pools.values() for child in pool.children)]

    @property
    def broker_pid(self) -> int | None:
        """The embedded broker's process; None where the broker is somebody else's."""
        return self._server.pid if self._server is not None else None

    # -- start -------------------------------------------------------------------------------------

    def _start(self) -> None:
        state = self._options.state_dir
        make_private(state)
        self._lock = try_lock(state / "up.lock")
        if self._lock is None:
            raise ConfigError(f"{state}: another pointsman up runs on it{_who(state)}; stop it, or use --state-dir")
        for folder in ("logs", "ready"):
            make_private(state / folder)
        if self._options.port is not None:
            self.http = f"http://127.0.0.1:{_port(self._options.port, '--port')}"
        flower_port = None if self._options.flower_port is None else _port(self._options.flower_port, "--flower-port")
        self._start_broker(state)
        env = self._start_models()
        if flower_port is not None:
            self._start_flower(flower_port, env)
        env["POINTSMAN_FLOWER_URL"] = self.flower
        self._workers.append(self._celery("router", "worker", "-Q", "route,join", "-c", str(ROUTER_CALLS), env=env))
        for name in self.config.models:
            self.pools[name] = Pool(name, lambda child_name, *words: self._celery(child_name, *words, env=env))
        self.scale()
        if self.config.schedules:
            self._start_beat(env)
        if self._options.port is not None:
            self._start_api(int(self.http.rpartition(":")[2]), env)
        self._wait_until_ready()
        write_private(
            state / UP_FILE,
            json.dumps(
                {
                    "pid": os.getpid(),
                    "config": str(self._options.config.resolve()),
                    "http": self.http,
                    "flower": self.flower,
                    "redis": _without_password(self.redis),
                    "started_at": time.time(),
                }
            ),
        )

    def _start_broker(self, state: Path) -> None:
        named = read_secret("POINTSMAN_REDIS_URL")
        if named is None:
            self._server = ValkeyServer(state)
            self._server.start()
            self.redis = self._server.url
        else:
            self.redis = named
        self._fleet_client()  # answers, or this raises

    def _start_models(self) -> dict[str, str]:
        """Start the embedded models that are asked for; returns the environment that tells workers where they are."""
        env = {"POINTSMAN_CONFIG": str(self._options.config.resolve()), "POINTSMAN_REDIS_URL": self.redis}
        # The matrices of the classifier are small: a second thread costs more than it brings.
        env["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")
        env["POINTSMAN_STATE_DIR"] = str(self._options.state_dir)
        # The grace is ours: workers that are told to end at once shall.
        env["POINTSMAN_GRACE_SECONDS"] = "0"
        simulated = {
            name: model.simulation or Simulation()
            for name, model in self.config.models.items()
            if model.provider == "simulated" and model.base_url is None
        }
        if simulated:
            file = self._options.state_dir / "simulated.json"
            named = {self.config.models[name].model or name: value for name, value in simulated.items()}
            write_private(file, json.dumps({name: value.model_dump(mode="json") for name, value in named.items()}))
            env["POINTSMAN_SIMULATED_URL"] = self._serve("simulated", ["ops.embedded.simulated", "--models", str(file)])
        slots = [m.capacity for m in self.config.models.values() if m.provider == "local" and m.base_url is None]
        if slots:
            if not local.is_installed():
                raise ConfigError('provider local needs its extra: pip install "pointsman[local]"')
            env["POINTSMAN_LOCAL_URL"] = self._serve(
                "local", ["ops.embedded.local", "--slots", str(sum(slots)), "--context", str(LOCAL_TOKENS * sum(slots))]
            )
        return env

    def _serve(self, name: str, module: list[str]) -> str:
        """A server of embedded models on a port that it keeps over restarts, since the workers are told it once."""
        port = _port(0, name)
        command = [sys.executable, "-m", *module, "--port", str(port), "--ready-file", str(self._ready_file(name))]
        self._services.append(self._child(name, command, env={}))
        return f"http://127.0.0.1:{port}/v1"

    def _start_flower(self, port: int, env: dict[str, str]) -> None:
        password = keep_password(self._options.state_dir / "flower.password")
        words = ["flower", "--address=127.0.0.1", f"--port={port}", "--purge_offline_workers=30", "--logging=warning"]
        child = self._child(
            "flower",
            [sys.executable, "-m", "celery", "-A", "worker", *words],
            # By the environment: what stands in argv is for all to see.
            env={**env, "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"},
            ready=False,
        )
        self._services.append(child)
        self.flower = f"http://127.0.0.1:{port}"

    def _start_api(self, port: int, env: dict[str, str]) -> None:
        words = ["--host", "127.0.0.1", "--port", str(port), "--ready-file", str(self._ready_file("api"))]
        self._services.append(self._child("api", [sys.executable, "-m", "producer.api", *words], env=env))

    def _start_beat(self, env: dict[str, str]) -> None:
        schedule = self._options.state_dir / "beat-schedule"
        words = ["beat", "--schedule", str(schedule), "--pidfile", "", "-l", "WARNING"]
        command = [sys.executable, "-m", "celery", "-A", "producer.schedule", *words]
        self._services.append(self._child("beat", command, env=env, ready=False))

    def _celery(self, name: str, *words: str, env: dict[str, str]) -> Child:
        command = [sys.executable, "-m", "celery", "-A", "worker", *words, "-n", f"{name}@%h", "-l", "INFO"]
        command += ["--without-gossip", "--without-mingle"]
        return self._child(name, command, env={**env, "POINTSMAN_READY_FILE": str(self._ready_file(name))})

    def _child(self, name: str, command: list[str], *, env: dict[str, str], ready: bool = True) -> Child:
        log = self._options.state_dir / "logs" / f"{name}.log"
        child = Child(name, command, env=env, log=log, ready=self._ready_file(name) if ready else None)
        child.start()
        return child

    def _ready_file(self, name: str) -> Path:
        return self._options.state_dir / "ready" / name

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while not self.stopping.is_set():
            late = [child for child in self.children if not child.is_ready]
            if not late and (not self.flower or _answers(self.flower + "/healthcheck")):
                return
            dead = next((child for child in late if child.exit_code is not None), None)
            if dead is not None:
                raise Unreachable(
                    f"{dead.name} ended with exit code {dead.exit_code}; {dead.log}:\n{dead.last_words()}"
                )
            if time.monotonic() > end:
                names = ", ".join(child.name for child in late) or "flower"
                raise Unreachable(f"not ready after {START_TIMEOUT:g} s: {names}; see {self._options.state_dir}/logs")
            self.stopping.wait(0.05)
        raise KeyboardInterrupt

    # -- run ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Watch until `stopping` is set: restart what died, scale pools as the operators say."""
        while not self.stopping.wait(0.5):
            for child in self.children:
                code = child.exit_code
                if child.keep():
                    self._say(f"{child.name} had ended with exit code {code}; started again, see {child.log}")
            self._keep_broker()
            try:
                self.scale()
            except PointsmanError as error:
                self._say(str(error))

    def _keep_broker(self) -> None:
        if self._server is not None and self._server.wait(0) is not None:
            self._say(f"the broker had ended; started again, see {self._server.log_path}")
            self._server.start()

    def scale(self) -> None:
        """Bring each pool to the capacity that was set: by an operator, or else by the configuration."""
        scaled = self._fleet_client()
        for name, pool in self.pools.items():
            pool.scale(int(scaled.get(name, self.config.models[name].capacity)))

    def _fleet_client(self) -> dict[str, str]:
        import redis

        try:
            with redis.Redis.from_url(
                self.redis, decode_responses=True, socket_timeout=5, socket_connect_timeout=5
            ) as client:
                found = client.hgetall("pm:{fleet}:scaled")
        except (redis.RedisError, OSError) as error:
            raise Unreachable(
                f"Redis does not answer at {_without_password(self.redis)} ({type(error).__name__}); "
                "start it, or unset POINTSMAN_REDIS_URL to use the embedded one"
            ) from error
        return dict(found)

    # -- stop --------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """End everything in order: intake, work, models, broker; returns what had to be killed. Safe to call twice."""
        self.stopping.set()
        (self._options.state_dir / UP_FILE).unlink(missing_ok=True)
        names = {"api", "beat", "flower"}
        front = [child for child in self._services if child.name in names]
        behind = [child for child in self._services if child.name not in names]
        pools = self.pools.values()
        workers = [*self._workers, *(child for pool in pools for child in (*pool.children, *pool.draining))]
        for child in workers:
            child.tell()  # they finish what runs while the others end
        killed = stop_all(front, grace=5.0, hurry=self.hurry)
        # SIGQUIT has a worker break off its calls and hand them back: the next start has them run again at once.
        killed += stop_all(workers, grace=GRACE, hurry=self.hurry, insist=signal.SIGQUIT)
        killed += stop_all(behind, grace=3.0, hurry=self.hurry)
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._services, self._workers, self.pools = [], [], {}
        return killed


def _port(wanted: int, flag: str) -> int:
    """A port that is free now: the wanted one, or any for 0."""
    # SO_REUSEADDR, as the servers set it: else the port of a server that just ended counts as used for a minute.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise ConfigError(f"{flag}: port {wanted} is in use; name another, or 0 for any free one") from None
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=1) as answer:  # noqa: S310 - an address of our own on loopback
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _who(state: Path) -> str:
    try:
        up = json.loads((state / UP_FILE).read_text())
    except (OSError, ValueError):
        return ""
    return f" (process {up['pid']}, {up['http']})"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
