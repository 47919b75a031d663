"""The models of a scenario, over HTTP; and a fleet of ours before them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

from ops.bench.fleet import BenchFleet
from ops.bench.process import serving
from ops.evaluate.simulation.scenarios import Models, Scenario
from tasks.contract.errors import ConfigError

__all__ = ["ReplicaFleet", "ReplicaServer", "simulation_of"]


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


class ReplicaServer:
    """The models of a scenario in one process; `url` is its root, the same after each `restart`."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self._folder, self._ends, self._port = folder, AsyncExitStack(), 0
        self.models = {name: models.capacity for models in scenario.models for name in models.names}
        self._file = folder / "replicas.json"
        simulations = {name: simulation_of(models) for models in scenario.models for name in models.names}
        self._file.write_text(json.dumps(simulations))
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.restart()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.aclose()

    async def restart(self) -> None:
        """Begin anew: counts are 0, and the clock of outages starts."""
        await self._ends.aclose()
        ready = self._folder / "replicas.ready"
        ready.unlink(missing_ok=True)
        command = ["-m", "ops.embedded.simulated", "--models", str(self._file), "--port", str(self._port)]
        await self._ends.enter_async_context(serving("replicas", command, folder=self._folder, env={}))
        self.url = ready.read_text().strip().removesuffix("/v1")
        self._port = int(self.url.rpartition(":")[2])

    async def stats(self) -> dict[str, dict[str, int]]:
        """By model, since the last restart: requests, errors, in_flight, peak_in_flight."""
        return await asyncio.to_thread(_get, f"{self.url}/stats")


def _get(url: str) -> dict[str, dict[str, int]]:
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
