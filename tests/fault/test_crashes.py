"""What is killed, lost or delivered twice: every accepted job still ends, once."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter

import pytest

from tasks.job import FINAL
from tasks.ledger import Admitted, CallId
from tasks.queue.app import make_app
from tasks.queue.publish import Publisher
from tests.harness import fleet, wait_for


def test_kill_9_of_a_worker_in_mid_job_is_repaired_within_seconds_by_the_sweeper(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 1.0}}) as running:
        _, victim = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"text": "hello"})
        wait_for(lambda: running.stats("fast")["in_flight"] == 1, "the call")

        victim.kill()
        running.start("model.fast", 4)

        # Far below the 101 s after which the broker itself would deliver again.
        result = running.producer.wait(job.id, timeout=25)
        assert result.state == "succeeded"
        assert result.parts[0].attempts == 2
        assert running.stats("fast")["requests"] == 2


def test_a_message_redelivered_while_the_dead_worker_s_lease_lives_is_ignored_until_the_sweeper_sends_it(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 2.0}}) as running:
        _, victim = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"kind": "vote", "n": 3, "text": "hello"})
        wait_for(lambda: running.stats("fast")["in_flight"] == 3, "the calls")
        victim.kill()

        # The broker's redelivery, at once: what kombu does when the visibility timeout has passed.
        redis = running.redis
        for delivery, entry in redis.hgetall("unacked").items():
            message, _, queue = json.loads(entry)
            redis.lpush(queue, json.dumps(message))
            redis.hdel("unacked", delivery)
        worker = running.start("model.fast", 4)
        wait_for(lambda: worker.log.count(" ignored") >= 3, "the redelivered messages to be ignored")
        assert running.stats("fast")["requests"] == 3

        result = running.producer.wait(job.id, timeout=25)
        assert result.state == "succeeded"
        assert result.details["votes"] == 3
        assert [part.attempts for part in result.parts] == [2, 2, 2]


def test_a_redelivered_call_whose_output_exists_does_not_ask_the_model_again(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running:
        _, worker = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"text": "hello"})
        assert running.producer.wait(job.id, timeout=20).state == "succeeded"

        _publish_call(running, job.id)
        wait_for(lambda: worker.log.count("succeeded in") == 2, "the second delivery")

        assert running.stats("fast")["requests"] == 1
        assert running.producer.result(job.id).parts[0].attempts == 1


@pytest.mark.parametrize("queue", ["route", "model.fast"])
def test_a_message_that_the_broker_lost_is_published_again(tmp_path, queue):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running:
        redis = running.redis
        if queue != "route":
            running.start("route,join", 2)
        job = running.producer.submit({"text": "hello"})
        lists = [queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9))]
        wait_for(lambda: any(redis.llen(name) for name in lists), "the message")
        redis.delete(*lists)

        running.start("route,join,model.fast", 4)

        assert running.producer.wait(job.id, timeout=40).state == "succeeded"


def test_a_chord_whose_counters_are_lost_is_joined_by_the_sweeper(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 2.0}}) as running:
        running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"kind": "sections", "items": ["a", "b", "c"]})
        wait_for(lambda: running.stats("fast")["in_flight"] == 3, "the calls")
        redis = running.redis
        redis.delete(*redis.keys("celery-taskset-meta-*"))

        assert running.producer.wait(job.id, timeout=40).state == "succeeded"


def test_a_join_that_is_triggered_twice_happens_once(tmp_path):
    with (
        fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running,
        Finals(running) as finals,
    ):
        router, _ = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"kind": "sections", "items": ["a", "b", "c"]})
        first = running.producer.wait(job.id, timeout=20)
        joined = router.log.count("tasks.join[")
        Publisher(make_app("again", running.valkey.url)).join(job.id)
        wait_for(lambda: router.log.count("tasks.join[") >= joined + 2, "the second join")
        assert running.producer.result(job.id) == first
        assert finals.of(job.id) == 1


def test_a_part_that_kills_every_worker_fails_in_the_end_and_its_job_with_a_reason(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 1}}, simulations={"fast": {"failure": "never"}}) as running:
        running.start("route,join", 2)
        job = running.producer.submit({"text": "hello"})
        redis = running.redis
        for lost in range(5):
            victim = running.start("model.fast", 1)
            wait_for(lambda lost=lost: running.stats("fast")["requests"] == lost + 1, f"call {lost + 1}")
            victim.kill()
        result = running.producer.wait(job.id, timeout=30)
        assert result.state == "failed"
        assert "its worker died each time" in result.error
        assert redis.zcard("pm:{fleet}:single:fast") == 0


def test_redis_killed_in_mid_work_loses_nothing_that_was_accepted(tmp_path):
    simulations = {"fast": {"latency": 0.3}}
    with fleet(tmp_path, models={"fast": {"capacity": 8}}, simulations=simulations) as running:
        running.start_all([("route,join", 2), ("model.fast", 8)])
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(60)])
        wait_for(lambda: running.stats("fast")["requests"] > 10, "some calls")
        # The append-only file is written each second: what was accepted before is on the disk then.
        running.redis.execute_command("BGREWRITEAOF")
        wait_for(lambda: running.redis.info("persistence")["aof_rewrite_in_progress"] == 0, "the rewrite")

        os.kill(running.valkey.pid, signal.SIGKILL)
        running.valkey.wait(10)
        running.valkey.start()

        for job in jobs:
            assert running.producer.wait(job.id, timeout=60).state == "succeeded"


def test_answers_that_come_while_redis_is_away_are_kept_and_no_model_is_asked_again(tmp_path):
    simulations = {"fast": {"latency": 2.0}}
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations=simulations) as running:
        running.start_all([("route,join", 2), ("model.fast", 4)])
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(4)])
        wait_for(lambda: running.stats("fast")["in_flight"] == 4, "the calls")
        redis = running.redis
        redis.execute_command("WAITAOF", 1, 0, 5000)  # the claims are on the disk

        os.kill(running.valkey.pid, signal.SIGKILL)
        running.valkey.wait(10)
        wait_for(lambda: running.stats("fast")["in_flight"] == 0, "the answers")
        running.valkey.start()

        results = [running.producer.wait(job.id, timeout=60) for job in jobs]
        assert {result.state for result in results} == {"succeeded"}
        assert running.stats("fast")["requests"] == 4


def test_200_mixed_jobs_end_exactly_once_while_workers_are_killed(tmp_path):
    models = {"fast": {"capacity": 8}, "slow": {"capacity": 4, "attempts": 10}}
    simulations = {"fast": {"latency": 0.3}, "slow": {"latency": 0.3, "error_rate": 0.2}}
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
            done = running.stats("fast")["requests"]
            wait_for(lambda done=done: running.stats("fast")["requests"] > done + 15, "progress")
            running.workers[victim].kill()
            running.start(queue, concurrency)

        results = [running.producer.wait(job.id, timeout=90) for job in jobs]

        assert Counter(result.state for result in results) == {"succeeded": 200}
        assert {finals.of(job.id) for job in jobs} == {1}
        redis = running.redis
        wait_for(lambda: not _in_flight(redis), "all leases to be given back")
        wait_for(lambda: redis.zcard("pm:{fleet}:active") == 0, "the sweeper to forget the jobs")


def test_a_job_of_high_priority_overtakes_a_thousand_that_wait(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 2}}, simulations={"fast": {"latency": 0.2}}) as running:
        running.start_all([("route,join", 4), ("model.fast", 2)])
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(1000)])
        redis = running.redis
        wait_for(lambda: redis.zcard("pm:{fleet}:lane:fast") > 900, "the backlog")
        urgent = running.producer.submit({"text": "now", "priority": "high"})

        result = running.producer.wait(urgent.id, timeout=30)

        assert result.state == "succeeded"
        ended = sum(running.producer.result(job.id).state in FINAL for job in jobs[:200])
        assert ended < 150
        # It stood behind what had been admitted before, and behind nothing else.
        assert redis.llen("model.fast") <= 4
        assert redis.zcard("pm:{fleet}:lane:fast") > 800


class Finals:
    """Counts how often each job was announced to have ended."""

    def __init__(self, running):
        self._channel = running.redis.pubsub(ignore_subscribe_messages=True)
        self._seen = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self):
        self._channel.psubscribe("pm:{*}:events")
        self._channel.get_message(timeout=5)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._channel.close()

    def _listen(self):
        while not self._stop.is_set():
            message = self._channel.get_message(timeout=0.1)
            if message and message["data"] in FINAL:
                self._seen[message["channel"]] += 1

    def of(self, job):
        return self._seen[f"pm:{{{job}}}:events"]


def _publish_call(running, job):
    Publisher(make_app("again", running.valkey.url)).calls([Admitted(CallId(job, 0), "fast")])


def _in_flight(redis):
    return [key for key in redis.keys("pm:{fleet}:single:*") + redis.keys("pm:{fleet}:part:*") if redis.zcard(key)]
