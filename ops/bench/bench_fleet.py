"""Ours, as a contestant: a Valkey server, a router and workers as `pointsman up` starts them, a producer in here.

Also the servers that answer for models: `MockModel`, and `ReplicaServer` for the models of a scenario.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import yaml

from ops.bench.process import serving
from ops.embedded.valkey import ValkeyServer
from ops.evaluate.simulation.scenarios import Models, Scenario
from ops.up.launcher import ROUTER_CALLS
from ops.up.processes import Child
from producer import AsyncProducer
from tasks.contract.errors import ConfigError, PointsmanError
from tasks.contract.result import FINAL

#: The same request as the peers send (`ops.bench.peers.bare.REQUEST`).
TEXT = "some work to be done"
#: Jobs that are submitted in one round trip, and whose states are asked in one.
CHUNK = 500
#: Seconds between two looks at what isn't done yet; the process that looks is not measured.
GLANCE = 0.05
#: Seconds that a round may take beside 0.1 a call: then something is stuck.
PATIENCE = 60.0


@asynccontextmanager
async def valkey_server(folder: Path) -> AsyncIterator[ValkeyServer]:
    """A server of the benchmark's own."""
    server = ValkeyServer(folder)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


class MockModel(AsyncExitStack):
    """`ops.bench.mock` as a process. `url` is its root."""

    def __init__(self, folder: Path, *, latency: float, name: str = "mock") -> None:
        super().__init__()
        self._folder, self._latency, self._name = folder, latency, name
        self.url = ""

    async def __aenter__(self) -> Self:
        command = ["-m", "ops.bench.mock", "--latency", str(self._latency)]
        await self.enter_async_context(serving(self._name, command, folder=self._folder, env={}))
        self.url = (self._folder / f"{self._name}.ready").read_text().strip()
        return self

    async def reset(self) -> None:
        await asyncio.to_thread(_get_json, f"{self.url}/reset")

    async def stats(self) -> dict[str, int]:
        """Since the last reset: requests, answered, broken, in_flight, peak_in_flight."""
        return await asyncio.to_thread(_get_json, f"{self.url}/stats")


class BenchFleet(AsyncExitStack):
    """`models` are names with capacities; each gets one worker process, or only those that `workers` name."""

    def __init__(
        self,
        folder: Path,
        mock: MockModel | ReplicaServer,
        models: Mapping[str, int],
        *,
        workers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self._folder, self._mock, self._models = folder, mock, models
        self._first = tuple(models) if workers is None else tuple(workers)
        self.valkey: ValkeyServer
        self.router: Child
        self.workers: dict[str, Child] = {}
        self.producer: AsyncProducer

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _start(self) -> None:
        self.valkey = await self.enter_async_context(valkey_server(self._folder / "state"))
        self._config = self._folder / "pointsman.yaml"
        self._config.write_text(yaml.safe_dump(self._settings()))
        self.producer = await self.enter_async_context(AsyncProducer(self._config, redis=self.valkey.url))
        # Together: what they need to start is mostly CPU, but not all.
        router, *_ = await asyncio.gather(
            self._worker("router", "route,join", ROUTER_CALLS, {}), *(self.start_worker(name) for name in self._first)
        )
        self.router = router

    def _settings(self) -> dict[str, Any]:
        """The configuration that all of its processes read."""
        return {
            "models": {
                name: {"provider": "openai", "model": "mock", "base_url": f"{self._mock.url}/v1", "capacity": capacity}
                for name, capacity in self._models.items()
            },
            "routes": {
                "work": {"keywords": ["work"], "models": list(self._models)},
                "rest": {"models": list(self._models)},
            },
            "default_route": "rest",
        }

    async def start_worker(self, model: str, env: Mapping[str, str] | None = None) -> Child:
        child = await self._worker(f"worker-{model}", f"model.{model}", self._models[model], env or {})
        self.workers[model] = child
        return child

    async def stop_worker(self, model: str) -> None:
        """End it, and don't wait for what it runs."""
        child = self.workers.pop(model)
        await asyncio.to_thread(child.kill)

    async def _worker(self, name: str, queues: str, concurrency: int, more: Mapping[str, str]) -> Child:
        # The words of `ops.up.stack`: what is measured is what runs.
        command = ["-m", "celery", "-A", "worker", "worker", "-Q", queues, "-c", str(concurrency), "-n", f"{name}@%h"]
        command += ["-l", "INFO", "--without-gossip", "--without-mingle"]
        env = {
            "POINTSMAN_CONFIG": str(self._config), "POINTSMAN_REDIS_URL": self.valkey.url,
            "POINTSMAN_STATE_DIR": str(self._folder / "state"), "OPENBLAS_NUM_THREADS": "1", **more,
        }  # fmt: skip
        context = serving(name, command, folder=self._folder, env=env, ready_variable="POINTSMAN_READY_FILE")
        return await self.enter_async_context(context)

    def pids(self, *models: str) -> dict[str, int]:
        """Processes by role: the workers of these models (by default all) count as one role each."""
        chosen = models or tuple(self.workers)
        roles = {"worker" if len(chosen) == 1 else f"worker-{name}": self.workers[name].pid for name in chosen}
        roles |= {"router": self.router.pid, "valkey": self.valkey.pid}
        return {role: pid for role, pid in roles.items() if pid is not None}

    async def submit(self, jobs: int, *, model: str | None) -> list[str]:
        """Submit so many single jobs; without a `model` they are classified and routed."""
        ids: list[str] = []
        request = {"text": TEXT} | ({"model": model} if model is not None else {})
        for start in range(0, jobs, CHUNK):
            accepted = await self.producer.submit_many([request] * min(CHUNK, jobs - start))
            ids += [job.id for job in accepted]
        return ids

    async def wait(self, ids: Sequence[str], *, within: float = PATIENCE, glance: float = GLANCE) -> int:
        """Wait until all these jobs have ended, with a look at them every `glance` s; returns how many succeeded.

        Raises:
            PointsmanError: if they haven't ended within `within` seconds and 0.1 a job.
        """
        left, good = list(ids), 0
        end = asyncio.get_running_loop().time() + within + len(ids) / 10
        while left:
            # In the order of submission, so that jobs that have not ended stand in front.
            head, rest = left[:CHUNK], left[CHUNK:]
            states = await self.producer.ledger.views.states(head)
            good += states.count("succeeded")
            waiting = [job for job, state in zip(head, states, strict=True) if state not in FINAL]
            left = waiting + rest
            if len(waiting) == len(head) or not rest:
                await asyncio.sleep(glance)
            if asyncio.get_running_loop().time() > end:
                # The folder goes, and the logs with it: print their ends now.
                logs = "\n".join(
                    f"{child.name}: {child.last_words()}" for child in (self.router, *self.workers.values())
                )
                raise PointsmanError(f"{len(left)} of {len(ids)} jobs have not ended\n{logs}")
        return good

    async def run(self, jobs: int, *, model: str | None) -> int:
        return await self.wait(await self.submit(jobs, model=model))


def simulation_of(models: Models) -> dict[str, Any]:
    """The simulation settings of such a model.

    Raises:
        ConfigError: for what it can't do: to be slow for a while, to join or to leave.
    """
    if models.joins or models.leaves is not None or any(slow.since or slow.until for slow in models.slow):
        raise ConfigError(f"{models.name}: what changes with time is simulated without servers alone")
    latency = models.latency.model_dump()
    for slow in models.slow:
        latency = {
            name: value * slow.times if isinstance(value, float) and name != "sigma" else value
            for name, value in latency.items()
        }
    return {
        "latency": latency,
        "per_token_s": models.per_token_s,
        "error_rate": models.error_rate,
        "outages": models.outages.model_dump() if models.outages is not None else None,
    }


class ReplicaServer(AsyncExitStack):
    """The models of a scenario in one process; `url` is its root, the same after each `restart`."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        super().__init__()
        self._folder, self._port = folder, 0
        self.models = {name: models.capacity for models in scenario.models for name in models.names}
        self._file = folder / "replicas.json"
        simulations = {name: simulation_of(models) for models in scenario.models for name in models.names}
        self._file.write_text(json.dumps(simulations))
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.restart()
        return self

    async def restart(self) -> None:
        """Begin anew: counts are 0, and the clock of outages starts."""
        await self.aclose()
        ready = self._folder / "replicas.ready"
        ready.unlink(missing_ok=True)
        command = ["-m", "ops.embedded.simulated", "--models", str(self._file), "--port", str(self._port)]
        await self.enter_async_context(serving("replicas", command, folder=self._folder, env={}))
        self.url = ready.read_text().strip().removesuffix("/v1")
        self._port = int(self.url.rpartition(":")[2])

    async def stats(self) -> dict[str, dict[str, int]]:
        """By model, since the last restart: requests, errors, in_flight, peak_in_flight."""
        return await asyncio.to_thread(_get_json, f"{self.url}/stats")


def _get_json(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - an address of our own on loopback
        return dict(json.load(answer))


class ReplicaFleet(BenchFleet):
    """A router and one worker process a replica; one route over all of them."""

    def __init__(self, folder: Path, server: ReplicaServer, strategy: str) -> None:
        super().__init__(folder, server, server.models)
        self._strategy = strategy

    def _settings(self) -> dict[str, Any]:
        models = {
            name: {"provider": "openai", "base_url": f"{self._mock.url}/v1", "capacity": capacity, "timeout": 60}
            for name, capacity in self._models.items()
        }
        route = {"models": list(models), "strategy": self._strategy}
        return {"models": models, "routes": {"replica": route}, "default_route": "replica"}
