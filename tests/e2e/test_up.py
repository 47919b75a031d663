"""`pointsman up` as its user meets it: one command, one line that says it is ready, one Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest
import redis
import yaml

from tests import redis_keys
from tests.harness import DEADLINE, REPOSITORY, alive, wait_for

CONFIG = {
    "models": {
        "fast": {"provider": "simulated", "capacity": 4, "simulation": {"latency": 0.05}},
        "slow": {"provider": "simulated", "capacity": 2, "simulation": {"latency": 1.0}},
    },
    "routes": {"billing": {"keywords": ["invoice"], "models": ["fast"]}, "support": {"models": ["fast", "slow"]}},
    "default_route": "support",
}
SECRET = "xyzzy-secret-prompt"


class Up:
    """A running `pointsman up`."""

    def __init__(self, folder: Path, *words: str, config: Mapping[str, Any] = CONFIG) -> None:
        self.state = folder / "state"
        file = folder / "pointsman.yaml"
        file.write_text(yaml.safe_dump(config))
        self.command = [sys.executable, "-m", "ops", "up", "--config", str(file), "--state-dir", str(self.state)]
        self.command += ["--port", "0", *(words or ("--no-flower",))]
        self._log = (folder / "up.log").open("ab")
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=REPOSITORY, start_new_session=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), (folder / "up.log").read_text()
        self.url = line.split()[1]
        self.http = httpx.Client(base_url=self.url, timeout=DEADLINE)
        self._redis: redis.Redis | None = None
        self.about = json.loads((self.state / "up.json").read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Ctrl-C."""
        children = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(DEADLINE)
        self.http.close()
        if self._redis is not None:
            self._redis.close()
        if self.process.stdout:
            self.process.stdout.close()
        self._log.close()
        assert not [child for child in children if alive(child.pid) and child.is_running()], (
            "something was left running"
        )
        return code

    @property
    def redis(self) -> redis.Redis:
        if self._redis is None:
            url = (self.state / "redis.url").read_text().strip()
            self._redis = redis.Redis.from_url(url, decode_responses=True)
        return self._redis

    def cli(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ops", *words, "--state-dir", str(self.state)],
            capture_output=True, text=True, timeout=DEADLINE, cwd=REPOSITORY, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    def wait(self, job: str, within: float = DEADLINE) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            result: dict[str, Any] = self.http.get(f"/jobs/{job}").json()
            return result if result["state"] in {"succeeded", "failed", "cancelled", "expired"} else None

        return dict(wait_for(ended, f"the end of job {job}", within=within))

    def workers(self, model: str) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                words: Sequence[str] = child.cmdline()
            except psutil.NoSuchProcess:  # it ended, and may not have been reaped
                continue
            if f"model.{model}" in words and "worker" in words:
                found.append(child)
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with Up(tmp_path_factory.mktemp("up"), "--flower-port", "0") as up:
        yield up


def test_http_client_submits_a_job_and_reads_its_result(up):
    accepted = up.http.post("/jobs", json={"text": "Where is my invoice?", "metadata": {"tier": "gold"}})
    assert accepted.status_code == 202
    assert accepted.json()["state"] == "accepted"

    result = up.wait(accepted.json()["id"])

    assert result["state"] == "succeeded"
    assert result["output"] == "[simulated fast] Where is my invoice?"
    assert result["simulated"] is True
    assert result["routing"]["route"] == "billing"
    assert result["parts"][0]["model"] == "fast"
    assert {"usage", "cost_usd", "queue_wait_s", "latency_s", "attempts"} <= result["parts"][0].keys()


def test_http_array_is_answered_in_order(up):
    jobs = [
        {"kind": "sections", "items": ["a", "b"], "join": "concatenate"},
        {"kind": "vote", "text": "x", "n": 3, "join": "majority", "early_stop": "exact", "prefer": "cost"},
        {"text": "x", "model": "slow"},
    ]
    accepted = up.http.post("/jobs", json=jobs).json()
    results = [up.wait(item["id"]) for item in accepted]
    assert [result["kind"] for result in results] == ["sections", "vote", "single"]
    assert {result["state"] for result in results} == {"succeeded"}


def test_flower_needs_the_password_and_shows_no_prompt(up):
    job = up.http.post("/jobs", json={"text": SECRET, "prompt": SECRET, "model": "fast"}).json()["id"]
    up.wait(job)
    flower = up.about["flower"]
    for page in ("/", "/tasks", "/workers", "/broker", "/api/tasks"):
        assert httpx.get(flower + page).status_code == 401, page

    auth = ("pointsman", (up.state / "flower.password").read_text().strip())
    with httpx.Client(base_url=flower, auth=auth, timeout=DEADLINE) as client:
        tasks = wait_for(lambda: _finished(client, f"{job}.0"), "the task in Flower")
        assert tasks["name"] == "tasks.call"
        queues = {queue["name"] for queue in client.get("/api/queues/length").json()["active_queues"]}
        assert {"route", "join", "model.fast", "model.slow"} <= queues
        pages = [client.get(page).text for page in ("/", "/tasks", "/broker", "/api/tasks", f"/task/{job}.0")]
        assert all(SECRET not in page for page in pages)
    assert all(SECRET not in log.read_text(errors="replace") for log in (up.state / "logs").iterdir())


def _finished(client: httpx.Client, task: str) -> dict[str, Any] | None:
    found = client.get("/api/tasks").json().get(task)
    return found if found and found["state"] == "SUCCESS" else None


def test_up_puts_no_secret_into_arguments_or_readable_files(up):
    password = (up.state / "flower.password").read_text().strip()
    for process in psutil.Process(up.process.pid).children(recursive=True):
        assert password not in " ".join(process.cmdline())
    assert up.state.stat().st_mode & 0o077 == 0


def test_celery_commands_work_with_up(up):
    env = {**os.environ, "POINTSMAN_STATE_DIR": str(up.state)}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "inspect", "active_queues", "--timeout", "10", "--json"],
        env=env, capture_output=True, text=True, timeout=DEADLINE, cwd=REPOSITORY, check=True,
    )  # fmt: skip
    queues = {queue["name"] for worker in json.loads(done.stdout).values() for queue in worker}
    assert queues == {"route", "join", "model.fast", "model.slow"}


def test_up_refuses_a_second_one_on_the_same_state_directory(up):
    done = subprocess.run(up.command, capture_output=True, text=True, timeout=DEADLINE, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert "another pointsman up runs on it" in done.stderr
    assert up.url in done.stderr
    assert "--state-dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert up.http.get("/healthz").status_code == 200


def test_up_reports_a_port_in_use_before_it_starts_anything(up, tmp_path):
    words = [*up.command]
    words[words.index("--state-dir") + 1] = str(tmp_path / "other")
    words[words.index("--port") + 1] = up.url.rpartition(":")[2]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert "--port: port" in done.stderr
    assert "is in use" in done.stderr


def test_malformed_message_goes_to_the_quarantine_and_harms_no_worker(up):
    before = up.workers("slow")[0].pid
    up.redis.lpush("model.slow", "this is no message")
    wait_for(
        lambda: up.redis.lrange(redis_keys.quarantine("model.slow"), 0, -1) == ["this is no message"], "the quarantine"
    )
    job = up.http.post("/jobs", json={"text": "x", "model": "slow"}).json()["id"]
    assert up.wait(job)["state"] == "succeeded"
    assert up.workers("slow")[0].pid == before


def test_up_restarts_a_killed_worker(up):
    before = up.workers("slow")[0]
    before.kill()
    wait_for(
        lambda: (now := up.workers("slow")) and now[0].pid != before.pid,
        "the restart of the worker",
    )
    job = up.http.post("/jobs", json={"text": "x", "model": "slow"}).json()["id"]
    assert up.wait(job)["state"] == "succeeded"


def test_command_line_submits_waits_and_explains(up):
    output = up.cli("submit", "--wait", "Where is my invoice?")
    assert "[simulated fast] Where is my invoice?" in output
    job = json.loads(up.cli("submit", "--json", "--wait", "--kind", "vote", "-n", "3", "Yes or no?"))
    assert job["state"] == "succeeded"
    printed = up.cli("explain", job["id"])
    assert "least_connections" in printed


def test_pool_is_scaled_up_and_down_to_a_total_of_calls_in_flight(tmp_path):
    with Up(tmp_path) as up:
        stats = up.state / "ready" / "simulated"
        models = stats.read_text().strip().removesuffix("/v1")

        def peak(jobs: int) -> int:
            ids = up.http.post("/jobs", json=[{"text": f"{n}", "model": "slow"} for n in range(jobs)]).json()
            most = 0

            def ended() -> bool:
                nonlocal most
                most = max(most, up.http.get(f"{models}/stats").json()["slow"]["in_flight"])
                return all(up.http.get(f"/jobs/{job['id']}").json()["state"] == "succeeded" for job in ids[-2:])

            wait_for(ended, "the end of the jobs")
            return most

        assert peak(6) == 2
        up.cli("pools", "scale", "slow", "5")
        wait_for(lambda: _threads(up) == [2, 3], "the second process")
        assert peak(25) == 5
        up.cli("pools", "scale", "slow", "1")
        wait_for(lambda: _threads(up) == [1], "the drained pool")
        assert peak(3) == 1
        assert "slow" in up.cli("pools")


def _threads(up: Up) -> list[int]:
    """Concurrency of the ready workers of model slow."""
    ready = {path.name for path in (up.state / "ready").iterdir()}
    found = []
    for process in up.workers("slow"):
        words = process.cmdline()
        if words[words.index("-n") + 1].removesuffix("@%h") in ready:
            found.append(int(words[words.index("-c") + 1]))
    return sorted(found)


def test_up_finishes_queued_jobs_after_ctrl_c_and_a_restart(tmp_path):
    with Up(tmp_path) as up:
        ids = up.http.post("/jobs", json=[{"text": f"{n}", "model": "slow"} for n in range(30)]).json()
        wait_for(lambda: up.http.get(f"/jobs/{ids[0]['id']}").json()["state"] == "running", "the first call")
        assert up.stop() == 0
    with Up(tmp_path) as up:
        assert {up.wait(job["id"])["state"] for job in ids} == {"succeeded"}


def test_up_that_is_killed_leaves_no_process_and_the_next_one_goes_on(tmp_path):
    with Up(tmp_path) as up:
        job = up.http.post("/jobs", json={"kind": "sections", "items": ["a"] * 6, "model": "slow"}).json()["id"]
        wait_for(lambda: up.http.get(f"/jobs/{job}").json()["state"] == "running", "the first call")
        children = psutil.Process(up.process.pid).children(recursive=True)
        up.process.kill()
        up.process.wait()
        wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), "their end")
    with Up(tmp_path) as up:
        assert up.wait(job)["state"] == "succeeded"


def test_schedule_runs_a_file_as_a_batch_each_minute(tmp_path):
    (tmp_path / "jobs.jsonl").write_text('{"text": "invoice one"}\n\n{"text": "two", "model": "fast"}\n')
    config = {**CONFIG, "schedules": {"minutely": {"cron": "* * * * *", "batch": "jobs.jsonl"}}}
    with Up(tmp_path, config=config) as up:
        batch = wait_for(lambda: up.redis.zrange(redis_keys.BATCHES, 0, 0), "the first tick")[0]
        jobs = wait_for(lambda: up.redis.zrange(redis_keys.batch_jobs(batch), 0, -1), "its jobs")
        results = [up.wait(job) for job in jobs]
        assert [result["output"] for result in results] == [
            "[simulated fast] invoice one",
            "[simulated fast] two",
        ]
        assert results[0]["labels"]["schedule"] == "minutely"
        assert "minutely" in up.cli("schedule", "list")
