"""The asyncio pool and Celery's own pools: the same tasks end alike, and ours can do what the others lack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import redis
from celery.result import AsyncResult, allow_join_result

from ops.embedded.valkey import ValkeyServer
from tests import forked, redis_keys
from tests.harness import DEADLINE, REPOSITORY, close_app, wait_for


class PoolWorker:
    """One worker of tests.pools.app."""

    def __init__(self, url, queue, folder, pool="", *options, **env):
        self.log_path = folder / f"{queue}.log"
        self.env = {**os.environ, "POINTSMAN_REDIS_URL": url, "POOLS_QUEUE": queue, **env}
        command = ["-A", "tests.pools.app", "worker", "-Q", queue]
        # Ours is the application's default.
        command += ["-P", pool] if pool else []
        command += ["-n", f"{queue}@test", "-l", "INFO", "--without-gossip", "--without-mingle", *options]
        with self.log_path.open("ab") as file:
            self.process = forked.start("celery", *command, env=self.env, output=file)

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self):
        wait_for(lambda: " ready." in self.log or self.process.poll() is not None, "the worker's start")
        assert self.process.poll() is None, self.log
        return self

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextmanager
def worker(url, queue, folder, *args, **env):
    running = PoolWorker(url, queue, folder, *args, **env)
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with ValkeyServer(tmp_path_factory.mktemp("pool") / "state") as server:
        yield server


@pytest.fixture(scope="module")
def app(valkey):
    before = os.environ.get("POINTSMAN_REDIS_URL")
    os.environ["POINTSMAN_REDIS_URL"] = valkey.url
    from tests.pools import app as module  # noqa: PLC0415 - importing reads the address

    yield module
    close_app(module.app)
    if before is None:
        del os.environ["POINTSMAN_REDIS_URL"]
    else:
        os.environ["POINTSMAN_REDIS_URL"] = before


@pytest.fixture(scope="module")
def client(valkey):
    with redis.Redis.from_url(valkey.url, decode_responses=True) as made:
        yield made


@pytest.fixture(scope="module")
def ours(valkey, app, tmp_path_factory):
    """A worker on our pool that the tests share."""
    with worker(valkey.url, "ours", tmp_path_factory.mktemp("ours"), "", "-c", "64") as running:
        yield running


def outcome(result):
    """How a task ended: its state and its value, or the type and text of its error."""
    with allow_join_result():
        try:
            value = result.get(timeout=DEADLINE)
        except Exception as error:  # noqa: BLE001 - the error is the outcome
            return result.state, type(error).__name__, str(error)
        return result.state, value


def run_all(app, queue, client):
    """Run the whole task set on one queue; returns the outcome of each case by its name."""
    tasks = app
    sent = {
        "plain": tasks.add.s(1, 2),
        "async": tasks.add_async.s(1, 2),
        "error": tasks.fail.s("why"),
        "plain error": tasks.fail_plain.s("why"),
        "retried": tasks.third_time.s(),
        "retried in vain": tasks.never.s(),
        "finds itself": tasks.own.s(),
        "timeout inside": tasks.inner_timeout.s(),
        "chain": tasks.add_async.s(1, 2) | tasks.add_async.s(3) | tasks.add.s(4),
        "chord": tasks.chord([tasks.add_async.s(i, i) for i in range(10)], tasks.total.s()),
        "chord with a failure": tasks.chord([tasks.add_async.s(1, 1), tasks.fail.s("part")], tasks.total.s()),
    }
    results = {name: signature.apply_async(queue=queue) for name, signature in sent.items()}
    results["bad arguments"] = tasks.app.send_task("tests.pools.app.add_async", (1,), queue=queue)
    ended = {name: outcome(result) for name, result in results.items()}
    ended["rejected"] = outcome(tasks.rejected.apply_async(queue=queue))[:2]
    family = tasks.family.apply_async(queue=queue)
    _, seen = outcome(family)
    child = outcome(AsyncResult(seen["child"], app=tasks.app))
    ended["family"] = (seen["me"] == family.id, child[1] == {"parent": family.id, "root": family.id})
    linked = tasks.add_async.apply_async((1, 2), queue=queue, link=tasks.add.s(10).set(task_id=f"linked-{queue}"))
    ended["linked"] = (outcome(linked), outcome(AsyncResult(f"linked-{queue}", app=tasks.app)))
    tasks.ignored.apply_async(queue=queue)
    # However they ended, all were acknowledged.
    wait_for(
        lambda: client.llen(queue) == 0 and client.zcard(redis_keys.RESERVED_INDEX) == 0, f"{queue} to be acknowledged"
    )
    return ended


def test_pool_ends_tasks_as_celery_s_solo_and_threads_pools_do(valkey, app, ours, client, tmp_path):
    # given: a worker on each of Celery's pools, whose children go to its own queue, too
    with (
        worker(valkey.url, "solo", tmp_path, "solo") as _,
        worker(valkey.url, "threads", tmp_path, "threads", "-c", "8") as _,
    ):
        on_solo = run_all(app, "solo", client)
        on_threads = run_all(app, "threads", client)
    on_ours = run_all(app, "ours", client)

    assert on_ours == on_solo == on_threads
    assert on_ours["async"] == ("SUCCESS", 3)
    assert on_ours["error"] == ("FAILURE", "ValueError", "why")
    assert on_ours["retried"] == ("SUCCESS", 2)
    assert on_ours["finds itself"] == ("SUCCESS", True)
    assert on_ours["chord"] == ("SUCCESS", 90)
    assert on_ours["chord with a failure"][0] == "FAILURE"
    assert on_ours["family"] == (True, True)


def test_pool_keeps_the_request_of_300_interleaved_tasks(valkey, app, tmp_path):
    with worker(valkey.url, "many", tmp_path, "", "-c", "300"):
        results = [app.own.apply_async((20,), queue="many") for _ in range(300)]
        assert [outcome(result) for result in results] == [("SUCCESS", True)] * 300


def test_pool_runs_as_many_tasks_at_once_as_its_limit(valkey, app, client, tmp_path):
    with worker(valkey.url, "limited", tmp_path, "", "-c", "5", "--prefetch-multiplier", "4"):
        client.delete("started")
        results = [app.long.apply_async((0.2,), queue="limited") for _ in range(10)]
        control = app.app.control.inspect(destination=["limited@test"], timeout=5)
        wait_for(lambda: client.llen("started") >= 5, "five to start")
        stats = control.stats()["limited@test"]["pool"]
        assert stats["max-concurrency"] == 5
        assert stats["running"] <= 5
        assert [outcome(result)[0] for result in results] == ["SUCCESS"] * 10


def test_soft_limit_interrupts_a_task_which_may_go_on_or_fail(app, ours):
    assert outcome(app.soft_limited.apply_async(queue="ours")) == ("SUCCESS", "interrupted")
    state, kind, _ = outcome(app.soft_limited_unhandled.apply_async(queue="ours"))
    assert (state, kind) == ("FAILURE", "SoftTimeLimitExceeded")


@pytest.mark.parametrize("name", ["hard_limited", "stubborn"])
def test_hard_limit_ends_a_task_whatever_it_catches(app, ours, client, name):
    state, kind, _ = outcome(getattr(app, name).apply_async(queue="ours"))
    assert (state, kind) == ("FAILURE", "TimeLimitExceeded")
    wait_for(lambda: running(app, "ours") == 0, "the task to leave the pool")
    assert client.zcard(redis_keys.RESERVED_INDEX) == 0


def running(app, queue):
    stats = app.app.control.inspect(destination=[f"{queue}@test"], timeout=5).stats()
    return stats[f"{queue}@test"]["pool"]["running"]


def test_revoke_with_terminate_cancels_a_call_in_flight(app, ours, client):
    client.delete("started", "cancelled")
    result = app.long.apply_async(queue="ours")
    wait_for(lambda: client.lrange("started", 0, -1) == [result.id], "the task to start")

    result.revoke(terminate=True)

    assert outcome(result)[:2] == ("REVOKED", "TaskRevokedError")
    wait_for(lambda: client.lrange("cancelled", 0, -1) == [result.id], "the coroutine to be cancelled")
    wait_for(lambda: client.zcard(redis_keys.RESERVED_INDEX) == 0, "the message to be acknowledged")
    assert "WorkerLostError" not in ours.log


def test_revoke_of_one_task_leaves_the_others_running(app, ours, client):
    client.delete("started")
    results = [app.long.apply_async((1.5,), queue="ours") for _ in range(5)]
    wait_for(lambda: client.llen("started") == 5, "all to start")
    results[2].revoke(terminate=True)
    states = [outcome(result)[0] for result in results]
    assert states == ["SUCCESS", "SUCCESS", "REVOKED", "SUCCESS", "SUCCESS"]


def test_pool_grows_and_shrinks_while_it_runs(valkey, app, client, tmp_path):
    with worker(valkey.url, "elastic", tmp_path, "", "-c", "1"):
        client.delete("started")
        results = [app.long.apply_async((2.0,), queue="elastic") for _ in range(4)]
        wait_for(lambda: client.llen("started") == 1, "the first to start")
        app.app.control.pool_grow(3, destination=["elastic@test"], reply=True)
        wait_for(lambda: client.llen("started") == 4, "the others to start")
        app.app.control.pool_shrink(3, destination=["elastic@test"], reply=True)
        stats = app.app.control.inspect(destination=["elastic@test"], timeout=5).stats()["elastic@test"]
        assert stats["pool"]["max-concurrency"] == 1
        assert [outcome(result)[0] for result in results] == ["SUCCESS"] * 4


def test_autoscale_grows_the_pool_under_load(valkey, app, client, tmp_path):
    with worker(valkey.url, "auto", tmp_path, "", "--autoscale", "6,1"):
        client.delete("started")
        results = [app.long.apply_async((3.0,), queue="auto") for _ in range(6)]
        wait_for(lambda: client.llen("started") == 6, "all to run at once", within=10)
        assert [outcome(result)[0] for result in results] == ["SUCCESS"] * 6


def test_soft_shutdown_lets_calls_finish_and_returns_the_rest(valkey, app, client, tmp_path):
    first = PoolWorker(valkey.url, "ending", tmp_path, "", "-c", "4", POOLS_GRACE="3")
    first.wait_until_ready()
    client.delete("started", "finished", "cancelled")
    short = app.long.apply_async((1.5,), queue="ending")
    long = app.long.apply_async((60.0,), queue="ending")
    wait_for(lambda: client.llen("started") == 2, "both to start")

    first.process.send_signal(signal.SIGQUIT)

    first.process.wait(DEADLINE)
    assert client.lrange("finished", 0, -1) == [short.id]
    assert client.lrange("cancelled", 0, -1) == [long.id]
    assert outcome(short) == ("SUCCESS", "slept")
    # Only the message of the long task is in the queue again.
    (message,) = client.lrange("ending", 0, -1)
    assert json.loads(message)["headers"]["id"] == long.id
    client.delete("ending")


def test_warm_shutdown_waits_for_all_and_acknowledges_them(valkey, app, client, tmp_path):
    client.delete("started")
    running_worker = PoolWorker(valkey.url, "warm", tmp_path, "", "-c", "50").wait_until_ready()
    results = [app.long.apply_async((1.0,), queue="warm") for _ in range(50)]
    wait_for(lambda: client.llen("started") == 50, "all to start")
    assert running_worker.stop() == 0
    assert [outcome(result)[0] for result in results] == ["SUCCESS"] * 50
    assert client.zcard(redis_keys.RESERVED_INDEX) == 0


def test_dead_loop_ends_the_process_and_its_work_is_delivered_again(valkey, app, client, tmp_path):
    first = PoolWorker(valkey.url, "dying", tmp_path, "", "-c", "4").wait_until_ready()
    result = app.kill_loop.apply_async(queue="dying")
    assert first.process.wait(DEADLINE) == 70
    assert "loop.died" in first.log
    with worker(valkey.url, "dying", tmp_path, "", "-c", "4"):
        assert outcome(result) == ("SUCCESS", None)


def test_task_on_the_loop_sends_a_chord_of_its_own(app, ours, client):
    client.delete("totals")
    app.fan.apply_async((25,), queue="ours")
    wait_for(lambda: client.lrange("totals", 0, -1) == ["25"], "the chord's callback")


def test_loop_goes_on_while_redis_is_stopped_under_load(tmp_path, app):
    # A server of its own, since it is stopped for the length of a network outage.
    lag = tmp_path / "lag.json"
    with ValkeyServer(tmp_path / "state") as server:
        env = {"POOLS_LAG_FILE": str(lag)}
        with worker(server.url, "paused", tmp_path, "", "-c", "200", **env) as running_worker:
            load = (
                "from tests.pools import app as m\n"
                "for n in range(4): m.chord([m.nap.s(4 + k % 7) for k in range(50)], m.total.s()).apply_async()\n"
            )
            subprocess.run([sys.executable, "-c", load], env=running_worker.env, cwd=REPOSITORY, check=True)
            with redis.Redis.from_url(server.url, decode_responses=True) as there:
                wait_for(lambda: there.hlen(redis_keys.RESERVED) > 100, "the load")
                started = time.monotonic()
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    before = len(json.loads(lag.read_text())) if lag.exists() else 0
                    wait_for(lambda: time.monotonic() - started > 10, "ten seconds")
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                during = json.loads(lag.read_text())[before:]
                wait_for(
                    lambda: there.hlen(redis_keys.RESERVED) == 0 and there.llen("paused") == 0, "the end of the load"
                )
    # The probe ran every 5 ms. The loop was never late by more than two busy cores explain.
    assert len(during) > 300
    assert sorted(during)[int(len(during) * 0.99)] < 0.05


def test_worker_refuses_to_start_with_fast_locals(valkey, tmp_path):
    refused = PoolWorker(valkey.url, "fast", tmp_path, "", USE_FAST_LOCALS="1")
    assert refused.process.wait(DEADLINE) != 0
    assert "USE_FAST_LOCALS is set" in refused.log
