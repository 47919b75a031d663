"""All of Pointsman on one machine: `pointsman up` starts, watches, scales and stops it.

A broker (unless ``POINTSMAN_REDIS_URL`` names one), the embedded models of the configuration, a router, a pool of
workers for each model, beat if there are schedules, the HTTP API and Flower. Each is a process with a log in the state
directory. A process that dies is started again; accepted jobs are in the broker's append-only file.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Self
from urllib.request import urlopen

import redis

from ops.embedded.state_dir import make_private, try_lock
from ops.embedded.valkey import ValkeyServer
from ops.up.launcher import ROUTER_CALLS, Launcher, find_port
from ops.up.processes import UP_FILE, Child, Running, WorkerPool, read_running, stop_all, write_running
from tasks.config.config import Config
from tasks.config.secrets import read_secret
from tasks.contract.errors import ConfigError, PointsmanError, Unreachable
from tasks.loading.load import load
from tasks.queue.address import hide_password

#: Seconds that calls in flight have to end at a shutdown; the next start runs the remaining ones again.
GRACE = 10.0
#: Seconds until all processes must answer after the start; a loaded laptop needs a good part of them.
START_TIMEOUT = 90.0
#: Seconds between two checks for processes that died and for a changed capacity.
WATCH_EVERY = 0.5
#: The services that accept work; they stop before the workers.
_FRONT = frozenset({"api", "beat", "flower"})


@dataclass(frozen=True, slots=True)
class Options:
    """`port` and `flower_port` may be 0 for any free one; None means no HTTP API, or no Flower."""

    config: Path
    state_dir: Path
    port: int | None = 8080
    flower_port: int | None = 5555
    log: Callable[[str], None] = lambda _text: None


class Stack:
    """A context manager: entering returns once all processes answer, leaving returns once all have ended.

    Raises on entering:
        ConfigError: for a configuration with errors, a port or a state directory in use.
        Unreachable: if a process does not come up in time; the message has the last lines of its log.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._log = options.log
        self.config: Config = load(options.config)
        #: Set to stop in order: calls in flight have time to end.
        self.stopping = Event()
        #: Set to stop at once.
        self.stopping_now = Event()
        self._lock: int | None = None
        self._server: ValkeyServer | None = None
        self._services: list[Child] = []
        self._routers: list[Child] = []
        self.pools: dict[str, WorkerPool] = {}
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

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """While entered, the first SIGINT or SIGTERM stops the stack in order, the second one at once."""

        def stop(_sign: int, _frame: object) -> None:
            if self.stopping.is_set():
                self.stopping_now.set()
            self.stopping.set()

        previous = {sign: signal.signal(sign, stop) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sign, handler in previous.items():
                signal.signal(sign, handler)

    @property
    def children(self) -> list[Child]:
        return [*self._services, *self._routers, *(child for pool in self.pools.values() for child in pool.children)]

    # -- start -------------------------------------------------------------------------------------

    def _start(self) -> None:
        options, state = self._options, self._options.state_dir
        self._lock_state_dir()
        port = None if options.port is None else find_port(options.port, "--port")
        flower_port = None if options.flower_port is None else find_port(options.flower_port, "--flower-port")
        self._start_broker()
        launcher = Launcher(options.config, state, self.redis)
        self._services += launcher.start_models(self.config)
        if flower_port is not None:
            self.flower = f"http://127.0.0.1:{flower_port}"
            self._services.append(launcher.start_flower(flower_port))
        self._routers.append(launcher.start_worker("router", "route,join", ROUTER_CALLS))
        for name in self.config.models:
            self.pools[name] = WorkerPool(name, launcher.start_worker)
        self.scale()
        if self.config.schedules:
            self._services.append(launcher.start_beat())
        if port is not None:
            self.http = f"http://127.0.0.1:{port}"
            self._services.append(launcher.start_api(port))
        self._wait_until_ready()
        config, address = str(options.config.resolve()), hide_password(self.redis)
        write_running(state, Running(os.getpid(), config, self.http, self.flower, address))

    def _lock_state_dir(self) -> None:
        state = self._options.state_dir
        make_private(state)
        self._lock = try_lock(state / "up.lock")
        if self._lock is None:
            running = read_running(state)
            owner = f" (process {running.pid}, {running.http})" if running is not None else ""
            raise ConfigError(f"{state}: another pointsman up runs on it{owner}; stop it, or use --state-dir")
        for folder in ("logs", "ready"):
            make_private(state / folder)

    def _start_broker(self) -> None:
        named = read_secret("POINTSMAN_REDIS_URL")
        if named is None:
            self._server = ValkeyServer(self._options.state_dir)
            self._server.start()
            self.redis = self._server.url
        else:
            self.redis = named
        self._read_capacities()  # raises if the broker does not answer

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
        """Until `stopping` is set, restart processes that died, and scale pools to their capacities."""
        while not self.stopping.wait(WATCH_EVERY):
            for child in self.children:
                code = child.exit_code
                if child.restart_if_dead():
                    self._log(f"{child.name} had ended with exit code {code}; started again, see {child.log}")
            if self._server is not None and self._server.wait(0) is not None:
                self._log(f"the broker had ended; started again, see {self._server.log_path}")
                self._server.start()
            try:
                self.scale()
            except PointsmanError as error:
                self._log(str(error))

    def scale(self) -> None:
        """Bring each pool closer to its capacity: the one that an operator has set, else the configured one."""
        scaled = self._read_capacities()
        for name, pool in self.pools.items():
            pool.scale(int(scaled.get(name, self.config.models[name].capacity)))

    def _read_capacities(self) -> dict[str, str]:
        """Return the capacities that operators have set, by model."""
        try:
            with redis.Redis.from_url(
                self.redis, decode_responses=True, socket_timeout=5, socket_connect_timeout=5
            ) as client:
                found = client.hgetall("pm:{fleet}:scaled")
        except (redis.RedisError, OSError) as error:
            raise Unreachable(
                f"Redis does not answer at {hide_password(self.redis)} ({type(error).__name__}); "
                "start it, or unset POINTSMAN_REDIS_URL to use the embedded one"
            ) from error
        return dict(found)

    # -- stop --------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """End all processes in order: intake, workers, models, broker; return the killed ones. Safe to call twice."""
        self.stopping.set()
        (self._options.state_dir / UP_FILE).unlink(missing_ok=True)
        front = [child for child in self._services if child.name in _FRONT]
        models = [child for child in self._services if child.name not in _FRONT]
        pools = self.pools.values()
        workers = [*self._routers, *(child for pool in pools for child in (*pool.children, *pool.draining))]
        for child in workers:
            child.send_signal()  # they finish their calls while the front ends
        killed = stop_all(front, grace=5.0, now=self.stopping_now)
        # SIGQUIT makes a worker hand its calls back: the next start runs them again at once.
        killed += stop_all(workers, grace=GRACE, now=self.stopping_now, insist=signal.SIGQUIT)
        killed += stop_all(models, grace=3.0, now=self.stopping_now)
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._services, self._routers, self.pools = [], [], {}
        return killed


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:  # noqa: S310 - an address of our own on loopback
            return bool(answer.status == 200)
    except OSError:
        return False
