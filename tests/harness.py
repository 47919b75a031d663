"""A small fleet for one test: a real Valkey, simulated models over HTTP, real Celery worker processes.

Everything is a process of its own on free ports, so tests run side by side; everything ends with the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import redis
import yaml

from ops.embedded.valkey import ValkeyServer
from producer import Producer
from tasks.contract.job import CallId
from tasks.contract.result import FINAL
from tasks.ledger import WAVE, Ledger
from tasks.queue.app import make_app
from tasks.queue.publisher import Publisher
from tasks.routing.snapshot import Preference, Ranking
from tests import forked, redis_keys

REPOSITORY = Path(__file__).resolve().parents[1]
#: Seconds in which an event must happen, or the test fails. Tests measure nothing by it, so it is generous: on a quiet
#: machine nothing takes a fifth of it. Set TEST_DEADLINE on a machine that is slower still.
DEADLINE = float(os.environ.get("TEST_DEADLINE", "200"))


def wait_for(condition: Callable[[], Any], what: str, *, within: float = DEADLINE) -> Any:
    """Return the first true value of `condition`, which is checked until `within` seconds have passed."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not happen within {within:g} s"
        time.sleep(0.02)  # between two checks, not a guess of the duration


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def publish(redis_url: str, step: Callable[[Publisher], Coroutine[Any, Any, None]]) -> None:
    """Publish messages from outside of the fleet, by a publisher of its own."""

    async def run() -> None:
        ledger = Ledger(redis_url, ())
        try:
            await step(Publisher(ledger.store, make_app("outside", redis_url)))
        finally:
            await ledger.close()

    asyncio.run(run())


def part_call(job: str, index: int) -> CallId:
    """The call of a part of a fan-out that was sent in full waves."""
    return CallId(job, index, index // WAVE)


def ranked(
    preferences: Sequence[Preference], *, bound: bool = False, balance: float | None = None, fallbacks: int = 0
) -> Ranking:
    """A ranking as a strategy returns it."""
    return Ranking(tuple(preferences), bound=bound, reason="", balance=balance, fallbacks=fallbacks)


@contextmanager
def ledger_runs(url: str, models: Sequence[str], view: Callable[[Ledger], Awaitable[Any]]) -> Iterator[Any]:
    """Yield a function that runs a coroutine function with `view(ledger)`, each time with a ledger of its own.

    All calls share one event loop.
    """

    async def call(function: Callable[[Any], Awaitable[Any]]) -> Any:
        ledger = Ledger(url, tuple(models))
        try:
            return await function(await view(ledger))
        finally:
            await ledger.close()

    with asyncio.Runner() as runner:
        yield lambda function: runner.run(call(function))


def close_app(app: Any) -> None:
    """Close all that a Celery application has opened in this thread: its own `close` leaves the backend's sockets."""
    consumer = app.backend.result_consumer
    # A result unsubscribes when it is collected, perhaps in a later test, over a new connection.
    consumer.cancel_for = lambda _task_id: None
    consumer.stop()
    app.backend.client.connection_pool.disconnect()
    app.close()


class Worker:
    """One Celery worker process."""

    def __init__(self, queues: str, concurrency: int, env: Mapping[str, str], log: Path) -> None:
        self.queues = queues
        self._log = log
        name = f"{log.stem}@test"
        command = ["-A", "worker", "worker", "-Q", queues, "-c", str(concurrency)]
        command += ["-n", name, "-l", "INFO", "--without-gossip", "--without-mingle"]
        with log.open("wb") as file:
            self.process = forked.start("celery", *command, env={**os.environ, **env}, output=file)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        wait_for(lambda: " ready." in self.log or self.process.poll() is not None, f"start of worker {self.queues}")
        assert self.process.poll() is None, self.log

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """A warm shutdown."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Fleet:
    def __init__(self, folder: Path, config: Mapping[str, Any], simulations: Mapping[str, Any]) -> None:
        self.folder = folder
        self.valkey = ValkeyServer(folder / "state")
        self._config = config
        self._simulations = simulations
        self._ends = ExitStack()
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        self.valkey.start()
        self._ends.callback(self.valkey.stop)
        self._http = httpx.Client(timeout=DEADLINE)
        self._ends.callback(self._http.close)
        self.models_url = self.serve_models(self._simulations)
        self.config_path = self.folder / "pointsman.yaml"
        config = {"limits": {"keep_seconds": 3600}, **self._config}
        config["models"] = {
            name: {"provider": "openai", "base_url": self.models_url, **model}
            for name, model in config["models"].items()
        }
        self.config_path.write_text(yaml.safe_dump(config))
        self.producer = Producer(self.config_path, redis=self.valkey.url)
        self._ends.callback(self.producer.close)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        try:
            for worker in self.workers:
                worker.stop()
        finally:
            self._ends.close()

    @property
    def env(self) -> dict[str, str]:
        return {
            "POINTSMAN_REDIS_URL": self.valkey.url,
            "POINTSMAN_CONFIG": str(self.config_path),
            # Tests read the outcome of messages in the log.
            "POINTSMAN_LOG_ATTEMPTS": "all",
        }

    @property
    def redis(self) -> redis.Redis:
        client = redis.Redis.from_url(self.valkey.url, decode_responses=True)
        self._ends.callback(client.close)
        return client

    def serve_models(self, simulations: Mapping[str, Any]) -> str:
        """Serve simulated models over HTTP; returns the base URL."""
        place = self.folder / f"models-{time.monotonic_ns()}"
        place.with_suffix(".json").write_text(json.dumps(simulations))
        ready = place.with_suffix(".ready")
        command = ["--models", str(place.with_suffix(".json")), "--port", "0", "--ready-file", str(ready)]
        process = forked.start("ops.embedded.simulated", *command, env=os.environ)
        self._ends.callback(process.wait, 10)
        self._ends.callback(process.terminate)
        wait_for(ready.exists, "start of the simulated models")
        return ready.read_text().strip()

    def stats(self, model: str) -> dict[str, int]:
        """The counts of a model at the simulated server: requests, in_flight, peak_in_flight."""
        return dict(self._http.get(self.models_url.removesuffix("/v1") + "/stats").json()[model])

    def start(
        self, queues: str, concurrency: int = 4, *, wait: bool = True, env: Mapping[str, str] | None = None
    ) -> Worker:
        name = f"worker{len(self.workers)}"
        worker = Worker(queues, concurrency, {**self.env, **(env or {})}, self.folder / f"{name}.log")
        self.workers.append(worker)
        if wait:
            worker.wait_until_ready()
        return worker

    def start_all(self, queues: Sequence[tuple[str, int]]) -> list[Worker]:
        """Start several workers at once and wait for all."""
        started = [self.start(queue, concurrency, wait=False) for queue, concurrency in queues]
        for worker in started:
            worker.wait_until_ready()
        return started

    def celery(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A stock command, ``celery -A worker …``."""
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker", *command],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            cwd=REPOSITORY,
            check=False,
        )


@contextmanager
def fleet(folder: Path, *, models: Mapping[str, Any], simulations: Mapping[str, Any], **config: Any) -> Iterator[Fleet]:
    """A fleet whose `models` are simulated as `simulations` say; no worker runs yet."""
    first = next(iter(models))
    config.setdefault("routes", {"only": {"models": [first]}})
    config.setdefault("default_route", next(iter(config["routes"])))
    with Fleet(folder, {"models": models, **config}, simulations) as running:
        yield running


class Finals:
    """Counts how often the end of each job was announced."""

    def __init__(self, running: Fleet) -> None:
        self._channel = running.redis.pubsub(ignore_subscribe_messages=True)
        self._seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._channel.psubscribe(redis_keys.job_events("*"))
        self._channel.get_message(timeout=5)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._channel.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            message = self._channel.get_message(timeout=0.1)
            if message and message["data"] in FINAL:
                self._seen[message["channel"]] += 1

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of announcements by the channel of the job."""
        return self._seen

    def of(self, job: str) -> int:
        return self._seen[redis_keys.job_events(job)]
