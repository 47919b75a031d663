"""The transport under real Celery workers, and under Celery's own commands."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ops.embedded.valkey import ValkeyServer
from producer import Producer
from tests import forked, redis_keys
from tests.harness import DEADLINE, REPOSITORY, Fleet, fleet, wait_for

#: The rights of the Redis user in the reference, as an operator copies them.
RULES = re.search(
    r"^ACL SETUSER pointsman on >PASSWORD (.*)$", (REPOSITORY / "docs/reference/queues.md").read_text(), re.MULTILINE
)
CAPACITY, SLOTS, JOBS = 20, 10, 30


class Guarded(Fleet):
    """A fleet whose processes log in to a Valkey as the user of the reference."""

    def __init__(self, folder: Path) -> None:
        models = {"fast": {"capacity": 4}, "slow": {"capacity": CAPACITY}}
        routes = {"only": {"models": ["fast"]}}
        config = {"models": models, "routes": routes, "default_route": "only"}
        super().__init__(folder, config, {"fast": {}, "slow": {"latency": 600}})
        self.valkey = ValkeyServer(folder / "state", port=free_port())

    @property
    def url(self) -> str:
        return f"redis://pointsman:some-password@127.0.0.1:{self.valkey.port}/0"

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "POINTSMAN_REDIS_URL": self.url}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    assert RULES is not None
    with Guarded(tmp_path_factory.mktemp("guarded")) as running:
        running.redis.execute_command("ACL", "SETUSER", "pointsman", "on", ">some-password", *RULES[1].split())
        running.start("route,join", 4, wait=False)
        running.start("model.fast", 4, wait=False)
        for worker in running.workers:
            worker.wait_until_ready()
        yield running
        # In all these tests the server refused only commands that the doctor can do without.
        refused = running.redis.execute_command("ACL", "LOG", 100)
        assert {entry["object"] for entry in map(_as_dict, refused)} <= {"config|get"}
        assert not any("NOPERM" in worker.log for worker in running.workers)


@pytest.fixture(scope="module")
def waiting(guarded):
    """A worker without prefetching whose slots are full, and the jobs that it runs or does not run yet."""
    command = ["-A", "worker", "worker", "-Q", "model.slow", "-c", str(SLOTS)]
    command += ["--disable-prefetch", "-n", "slow@test", "-l", "INFO", "--without-gossip", "--without-mingle"]
    log = guarded.folder / "slow.log"
    with log.open("wb") as file:
        worker = forked.start("celery", *command, env={**os.environ, **guarded.env}, output=file)
    try:
        jobs = guarded.producer.submit_many([{"text": f"{number}", "model": "slow"} for number in range(JOBS)])
        wait_for(lambda: guarded.stats("slow")["in_flight"] == SLOTS, "the calls")
        wait_for(
            lambda: guarded.redis.llen("model.slow") + guarded.redis.hlen(redis_keys.RESERVED) == JOBS, "all messages"
        )
        yield jobs
    finally:
        for job in jobs:
            guarded.producer.cancel(job.id)
        worker.send_signal(signal.SIGTERM)
        worker.wait(DEADLINE)


def test_redis_user_of_the_docs_suffices_for_workers_and_producers(guarded):
    with Producer(guarded.config_path, redis=guarded.url) as producer:
        requests = [
            {"text": "one", "budget_usd": 1},
            {"kind": "vote", "text": "two", "n": 3},
            {"kind": "sections", "items": ["a", "b", "c"]},
        ]
        jobs = [producer.submit(request) for request in requests]
        assert {producer.wait(job.id, timeout=DEADLINE).state for job in jobs} == {"succeeded"}
        assert not producer.cancel(jobs[0].id)
    for words in (["models"], ["doctor"], ["result", jobs[0].id]):
        command = [sys.executable, "-m", "ops", *words]
        environment = {**os.environ, **guarded.env}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False, cwd=REPOSITORY
        )
        assert "NOPERM" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def _as_dict(entry):
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))


def test_worker_without_prefetching_reserves_one_message_a_slot(guarded, waiting):
    assert guarded.redis.hlen(redis_keys.RESERVED) == SLOTS
    assert guarded.redis.llen("model.slow") == JOBS - SLOTS


def test_celery_inspect_shows_the_queues_of_each_worker(guarded, waiting):
    reply = json.loads(guarded.celery("inspect", "active_queues", "--json").stdout)
    queues = {name: {queue["name"] for queue in of} for name, of in reply.items()}
    assert queues == {
        "worker0@test": {"route", "join"},
        "worker1@test": {"model.fast"},
        "slow@test": {"model.slow"},
    }


def test_flower_shows_the_lengths_of_queues(guarded, waiting):
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "worker", "flower", "--address=127.0.0.1", f"--port={port}"]
    environment = {**os.environ, **guarded.env, "FLOWER_UNAUTHENTICATED_API": "true"}
    with (guarded.folder / "flower.log").open("wb") as file:
        flower = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=REPOSITORY)

    def lengths():
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/queues/length", timeout=DEADLINE)
        except httpx.TransportError:
            return None
        found = {queue["name"]: queue["messages"] for queue in answer.json()["active_queues"]}
        return found if "model.slow" in found else None

    try:
        assert wait_for(lengths, "the queues in Flower")["model.slow"] == JOBS - SLOTS
        page = httpx.get(f"http://127.0.0.1:{port}/broker", timeout=DEADLINE)
        assert page.status_code == 200
        assert "some-password" not in page.text
    finally:
        flower.terminate()
        flower.wait(DEADLINE)


def test_celery_purge_takes_waiting_messages_and_leaves_running_calls(guarded, waiting):
    # The sweeper must pause: it would publish the missing messages again.
    guarded.redis.set(redis_keys.SWEEPER_LEADER, "the test", ex=60)
    wait_for(lambda: guarded.redis.llen("model.slow") > 0, "messages in the queue")
    waits = guarded.redis.llen("model.slow")
    done = guarded.celery("purge", "-f", "-Q", "model.slow")
    assert f"Purged {waits} messages" in done.stdout
    assert guarded.redis.llen("model.slow") == 0
    assert guarded.redis.hlen(redis_keys.RESERVED) == SLOTS
    guarded.redis.delete(redis_keys.SWEEPER_LEADER)


def test_idle_workers_consume_again_after_their_broker_was_killed(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running:
        workers = running.start_all([("route,join", 2), ("model.fast", 4)])
        first = running.producer.submit({"text": "before"})
        assert running.producer.wait(first.id, timeout=DEADLINE).state == "succeeded"
        running.redis.execute_command("WAITAOF", 1, 0, 5000)

        os.kill(running.valkey.pid, signal.SIGKILL)
        running.valkey.wait(DEADLINE)
        running.valkey.start()

        jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(20)])
        results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
        assert {result.state for result in results} == {"succeeded"}
        assert running.stats("fast")["requests"] == 21
        assert running.producer.result(first.id).state == "succeeded"
        assert [worker.process.poll() for worker in workers] == [None, None]
        store = running.redis
        wait_for(
            lambda: (store.hlen(redis_keys.RESERVED), store.zcard(redis_keys.RESERVED_INDEX)) == (0, 0),
            "all acknowledgements",
        )


def test_celery_control_shuts_a_worker_down_with_nothing_reserved(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 0.5}}) as running:
        worker = running.start("route,join,model.fast", 8)
        jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(4)])
        wait_for(lambda: running.stats("fast")["in_flight"] == 4, "the calls")
        assert "pong" in running.celery("inspect", "ping").stdout
        worker.stop()
        store = running.redis
        assert (store.hlen(redis_keys.RESERVED), store.zcard(redis_keys.RESERVED_INDEX)) == (0, 0)
        assert "Traceback" not in worker.log
        running.start("route,join,model.fast", 8)
        assert {running.producer.wait(job.id, timeout=DEADLINE).state for job in jobs} == {"succeeded"}
