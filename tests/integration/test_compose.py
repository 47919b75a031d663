"""docker-compose.yml against the Compose Specification, and its commands as processes against a real Valkey.

`compose-spec.json` is the schema of the Compose Specification (Apache-2.0), unchanged.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from ops.embedded.valkey import ValkeyServer
from tasks.config.simulation import Simulation
from tasks.loading.load import load
from tests.harness import DEADLINE, REPOSITORY, wait_for

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(set(SERVICES) - {"redis"})
CONFIG = load(REPOSITORY / "pointsman.yaml")


def test_compose_file_fits_its_schema():
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())

    jsonschema.Draft202012Validator(schema).validate(COMPOSE)

    assert "version" not in COMPOSE


def test_example_models_have_pools_of_their_capacity():
    for name, model in CONFIG.models.items():
        command = SERVICES[name]["command"]
        assert command[command.index("-Q") + 1] == f"model.{name}"
        assert command[command.index("-c") + 1] == str(model.capacity)


def test_simulated_models_behave_as_in_the_example_configuration():
    simulated = json.loads((REPOSITORY / "examples" / "simulated.json").read_text())

    assert {name: Simulation.model_validate(behaviour) for name, behaviour in simulated.items()} == {
        name: model.simulation for name, model in CONFIG.models.items()
    }


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_restart_report_their_health_and_have_time_to_end(name):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["stop_grace_period"]


def test_published_ports_are_those_of_the_front_on_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert set(published) == {"api", "flower"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_broker_keeps_accepted_jobs():
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


@dataclass
class Host:
    """What a container would find, somewhere on this machine."""

    folder: Path
    ports: dict[str, str]

    def place(self, text: str) -> str:
        """A command, a path or an address of a container as it is here."""
        for inside, outside in {
            "/run/pointsman": str(self.folder / "run"),
            "/run/secrets": str(self.folder / "secrets"),
            "/etc/pointsman/simulated.json": str(REPOSITORY / "examples" / "simulated.json"),
            "/etc/pointsman": str(REPOSITORY),
            **self.ports,
        }.items():
            text = text.replace(inside, outside)
        return text.replace("$$", "$")  # compose reads a doubled sign as one

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        own = {name: self.place(value) for name, value in service.get("environment", {}).items()}
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
        return {**foreign, **own, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def is_healthy(self, service: dict[str, Any]) -> bool:
        """Whether the service's own check says so."""
        kind, *words = (self.place(word) for word in service["healthcheck"]["test"])
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        env = self.environment(service)
        return subprocess.run(command, env=env, capture_output=True, check=False, timeout=DEADLINE).returncode == 0


@pytest.fixture
def host(tmp_path) -> Iterator[Host]:
    """Its secrets are those that operators make; the broker's address alone is another."""
    for name in ("run", "cwd"):
        (tmp_path / name).mkdir()
    command = ["sh", str(REPOSITORY / "ops" / "make-secrets.sh"), str(tmp_path / "made")]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "secrets").mkdir()
    for name, secret in COMPOSE["secrets"].items():
        made = tmp_path / "made" / Path(secret["file"]).name
        (tmp_path / "secrets" / name).write_text(made.read_text())
    broker, *others = _free_ports(4)
    with ValkeyServer(tmp_path / "broker", port=broker) as server:
        (tmp_path / "secrets" / "redis_url").write_text(server.url + "\n")
        yield Host(tmp_path, dict(zip(("8080", "5555", "9801"), map(str, others), strict=True)))


@pytest.mark.parametrize("name", OURS)
def test_service_command_becomes_healthy_and_ends_on_sigterm(name, host):
    service = SERVICES[name]
    # beat's files are there before it has loaded all it needs, and SIGTERM before that gives it a bad exit code.
    command = [host.place(word).replace("INFO", "DEBUG" if name == "beat" else "INFO") for word in service["command"]]
    log = host.folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=host.environment(service), cwd=host.folder / "cwd", stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: process.poll() is not None or host.is_healthy(service), f"health of {name}")
        assert process.poll() is None, f"{shlex.join(command)} ended:\n{log.read_text()}"
        _check_answers(name, host)
        if name == "beat":
            wait_for(lambda: "beat: Waking up" in log.read_text(), "its first look at the schedules")

        process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert code in {0, -signal.SIGTERM}, log.read_text()
    assert "Traceback" not in log.read_text()


def _check_answers(name: str, host: Host) -> None:
    """What health alone does not show: that doors are locked, and that the secrets open them."""
    made = host.folder / "made"
    if name == "api":
        url = f"http://127.0.0.1:{host.ports['8080']}/jobs"
        key = (made / "api_key").read_text().strip()
        assert httpx.post(url, json={"text": "hello"}).status_code == 401
        answer = httpx.post(url, json={"text": "hello"}, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 202
    elif name == "flower":
        url = f"http://127.0.0.1:{host.ports['5555']}/workers"
        password = (made / "flower_password").read_text().strip()
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=("pointsman", password)).status_code == 200


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
