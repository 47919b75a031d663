"""What is lost, delivered twice or in the way: every accepted job still ends, once, and the urgent ones first."""

from __future__ import annotations

import json

import pytest

from tasks.contract.job import CallId
from tasks.contract.result import FINAL
from tasks.ledger import Admitted
from tests import redis_keys
from tests.harness import DEADLINE, Finals, fleet, publish, wait_for


def test_redelivered_message_is_ignored_while_a_dead_worker_s_lease_lives(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 12.0}}) as running:
        _, victim = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"kind": "vote", "n": 3, "text": "hello", "early_stop": "off"})
        wait_for(lambda: running.stats("fast")["in_flight"] == 3, "the calls")
        # Ready before the other dies: the lease is shorter than a worker's start on a busy machine.
        worker = running.start("model.fast", 4)
        victim.kill()

        # The broker's redelivery, at once: what kombu does when the visibility timeout has passed.
        redis = running.redis
        for delivery, entry in redis.hgetall(redis_keys.RESERVED).items():
            message, _, queue = json.loads(entry)
            redis.lpush(queue, json.dumps(message))
            redis.hdel(redis_keys.RESERVED, delivery)
        wait_for(lambda: worker.log.count(" ignored") >= 3, "the redelivered messages to be ignored")
        assert running.stats("fast")["requests"] == 3

        result = running.producer.wait(job.id, timeout=DEADLINE)
        assert result.state == "succeeded"
        assert result.details["votes"] == 3
        assert [part.attempts for part in result.parts] == [2, 2, 2]


def test_redelivered_call_with_an_output_does_not_call_the_model_again(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running:
        _, worker = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"text": "hello"})
        assert running.producer.wait(job.id, timeout=DEADLINE).state == "succeeded"

        _publish_call(running, job.id)
        wait_for(lambda: worker.log.count("succeeded in") == 2, "the second delivery")

        assert running.stats("fast")["requests"] == 1
        assert running.producer.result(job.id).parts[0].attempts == 1


@pytest.mark.parametrize("queue", ["route", "model.fast"])
def test_message_that_the_broker_lost_is_published_again(tmp_path, queue):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running:
        redis = running.redis
        if queue != "route":
            running.start("route,join", 2)
        job = running.producer.submit({"text": "hello"})
        lists = redis_keys.lists_of(queue)
        wait_for(lambda: any(redis.llen(name) for name in lists), "the message")
        redis.delete(*lists)

        running.start("route,join,model.fast", 4)

        assert running.producer.wait(job.id, timeout=DEADLINE).state == "succeeded"


def test_chord_whose_counters_are_lost_is_joined_by_the_sweeper(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 2.0}}) as running:
        running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"kind": "sections", "items": ["a", "b", "c"]})
        wait_for(lambda: running.stats("fast")["in_flight"] == 3, "the calls")
        redis = running.redis
        redis.delete(*redis.keys("celery-taskset-meta-*"))

        assert running.producer.wait(job.id, timeout=DEADLINE).state == "succeeded"


def test_join_that_is_triggered_twice_happens_once(tmp_path):
    with (
        fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {}}) as running,
        Finals(running) as finals,
    ):
        router, _ = running.start_all([("route,join", 2), ("model.fast", 4)])
        job = running.producer.submit({"kind": "sections", "items": ["a", "b", "c"]})
        first = running.producer.wait(job.id, timeout=DEADLINE)
        joined = router.log.count("tasks.join[")
        publish(running.valkey.url, lambda publisher: publisher.send_join(job.id))
        wait_for(lambda: router.log.count("tasks.join[") >= joined + 2, "the second join")
        assert running.producer.result(job.id) == first
        assert finals.of(job.id) == 1


def test_job_of_high_priority_overtakes_a_thousand_that_wait(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 2}}, simulations={"fast": {"latency": 0.2}}) as running:
        running.start_all([("route,join", 4), ("model.fast", 2)])
        jobs = running.producer.submit_many([{"text": f"job {number}"} for number in range(1000)])
        redis = running.redis
        wait_for(lambda: redis.zcard(redis_keys.waiting_list("fast")) > 900, "the backlog")
        urgent = running.producer.submit({"text": "now", "priority": "high"})

        result = running.producer.wait(urgent.id, timeout=DEADLINE)

        assert result.state == "succeeded"
        ended = sum(running.producer.result(job.id).state in FINAL for job in jobs[:200])
        assert ended < 150
        # It stood behind what had been admitted before, and behind nothing else.
        assert redis.llen("model.fast") <= 4
        assert redis.zcard(redis_keys.waiting_list("fast")) > 800


def _publish_call(running, job):
    publish(running.valkey.url, lambda publisher: publisher.send_calls([Admitted(CallId(job, 0), "fast")]))
