"""What is killed: every accepted job still ends, once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

from tests import redis_keys
from tests.harness import DEADLINE, Finals, fleet, wait_for


def test_killed_worker_s_job_is_repaired_by_the_sweeper_within_seconds(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 1.0}}) as running:
        _, victim = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"text": "hello"})
        wait_for(lambda: running.stats("fast")["in_flight"] == 1, "the call")

        victim.kill()
        running.start("model.fast", 4)

        # Far below the 101 s after which the broker itself would deliver again.
        result = running.producer.wait(job.id, timeout=DEADLINE)
        assert result.state == "succeeded"
        assert result.parts[0].attempts == 2
        assert running.stats("fast")["requests"] == 2


def test_soft_shutdown_returns_calls_and_another_worker_starts_them(tmp_path):
    simulations = {"fast": {"latency": 30.0}, "quick": {"latency": 0.2}}
    models = {"fast": {"capacity": 4, "model": "fast"}}
    with fleet(tmp_path, models=models, simulations=simulations) as running:
        running.start("route,join", 2, wait=False)
        leaving = running.start("model.fast", 4, env={"POINTSMAN_GRACE_SECONDS": "1"})
        job = running.producer.submit({"text": "hello"})
        wait_for(lambda: running.stats("fast")["in_flight"] == 1, "the call")
        redis = running.redis

        leaving.process.send_signal(signal.SIGQUIT)
        leaving.process.wait(DEADLINE)
        # Its HTTP call was broken off, its part waits for the next worker, and no worker counts as lost.
        wait_for(lambda: running.stats("fast")["in_flight"] == 0, "the end of the call")
        assert redis.hget(redis_keys.parts(job.id), "0:state") == "queued"
        assert redis.llen("model.fast") == 1

        # When it comes back the model is a quick one.
        running.config_path.write_text(running.config_path.read_text().replace("model: fast", "model: quick"))
        running.start("model.fast", 4)
        result = running.producer.wait(job.id, timeout=DEADLINE)
        assert (result.state, result.parts[0].attempts) == ("succeeded", 2)
        assert redis.hget(redis_keys.parts(job.id), "0:lost") is None


def test_part_that_kills_every_worker_fails_its_job_with_a_reason(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 1}}, simulations={"fast": {"failure": "never"}}) as running:
        running.start("route,join", 2)
        job = running.producer.submit({"text": "hello"})
        redis = running.redis
        for lost in range(5):
            victim = running.start("model.fast", 1)
            wait_for(lambda lost=lost: running.stats("fast")["requests"] == lost + 1, f"call {lost + 1}")
            victim.kill()
        result = running.producer.wait(job.id, timeout=DEADLINE)
        assert result.state == "failed"
        assert "its worker died each time" in result.error
        assert redis.zcard(redis_keys.claims("fast")) == 0


def test_killed_redis_loses_no_accepted_job(tmp_path):
    simulations = {"fast": {"latency": 0.3}}
    with fleet(tmp_path, models={"fast": {"capacity": 8}}, simulations=simulations) as running:
        running.start_all([("route,join", 2), ("model.fast", 8)])
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(60)])
        wait_for(lambda: running.stats("fast")["requests"] > 10, "some calls")
        # The append-only file is written each second: what was accepted before is on the disk then.
        running.redis.execute_command("BGREWRITEAOF")
        wait_for(lambda: running.redis.info("persistence")["aof_rewrite_in_progress"] == 0, "the rewrite")

        os.kill(running.valkey.pid, signal.SIGKILL)
        running.valkey.wait(DEADLINE)
        running.valkey.start()

        for job in jobs:
            assert running.producer.wait(job.id, timeout=DEADLINE).state == "succeeded"


def test_answers_that_arrive_without_redis_are_kept_and_not_repeated(tmp_path):
    simulations = {"fast": {"latency": 2.0}}
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations=simulations) as running:
        running.start_all([("route,join", 2), ("model.fast", 4)])
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(4)])
        wait_for(lambda: running.stats("fast")["in_flight"] == 4, "the calls")
        redis = running.redis
        redis.execute_command("WAITAOF", 1, 0, 5000)  # the claims are on the disk

        os.kill(running.valkey.pid, signal.SIGKILL)
        running.valkey.wait(DEADLINE)
        wait_for(lambda: running.stats("fast")["in_flight"] == 0, "the answers")
        running.valkey.start()

        results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
        assert {result.state for result in results} == {"succeeded"}
        assert running.stats("fast")["requests"] == 4


def test_200_mixed_jobs_end_exactly_once_while_workers_are_killed(tmp_path):
    models = {"fast": {"capacity": 8}, "slow": {"capacity": 4, "attempts": 10}}
    simulations = {"fast": {"latency": 0.5}, "slow": {"latency": 0.5, "error_rate": 0.2}}
    routes = {"a": {"keywords": ["alpha"], "models": ["fast"]}, "b": {"models": ["fast", "slow"]}}
    chance = random.Random(7)
    with (
        fleet(tmp_path, models=models, simulations=simulations, routes=routes, default_route="b") as running,
        Finals(running) as finals,
    ):
        running.start_all([("route,join", 4), ("model.fast", 8), ("model.slow", 4)])
        kinds = [
            lambda number: {"text": f"alpha {number}"},
            lambda number: {"text": f"beta {number}", "priority": chance.choice(["high", "low"])},
            lambda number: {"kind": "sections", "items": [f"{number}", "two", "three"], "policy": "partial"},
            lambda number: {"kind": "vote", "text": f"{number}", "n": 3},
        ]
        jobs = running.producer.submit_many([kinds[number % 4](number) for number in range(200)])
        for victim, queue, concurrency in ((1, "model.fast", 8), (2, "model.slow", 4), (0, "route,join", 4)):
            done = asked(running)
            wait_for(lambda done=done: asked(running) > done + 30, "progress")
            running.workers[victim].kill()
            # Not waited for: on a busy machine the others would have done all the work by then.
            running.start(queue, concurrency, wait=False)

        results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]

        assert Counter(result.state for result in results) == {"succeeded": 200}
        assert {finals.of(job.id) for job in jobs} == {1}
        redis = running.redis
        wait_for(lambda: not _in_flight(redis), "all leases to be given back")


def asked(running):
    return running.stats("fast")["requests"] + running.stats("slow")["requests"]


def _in_flight(redis):
    return [
        key
        for key in redis.keys(redis_keys.claims("*")) + redis.keys(redis_keys.claims("*", kind="part"))
        if redis.zcard(key)
    ]
