"""Cancelling: waiting jobs, running jobs, and what had ended before."""

from __future__ import annotations

import time

import pytest

from producer import JobNotFound
from tasks.contract.job import CallId
from tasks.ledger import Admitted
from tests import redis_keys
from tests.harness import fleet, publish, wait_for


@pytest.fixture
def running(tmp_path):
    with fleet(tmp_path, models={"slow": {"capacity": 2}}, simulations={"slow": {"latency": 30}}) as running:
        running.start_all([("route,join", 2), ("model.slow", 2)])
        yield running


def test_running_job_is_cancelled_at_once_and_its_calls_within_two_beats(running):
    job = running.producer.submit({"kind": "vote", "text": "x", "n": 2})
    wait_for(lambda: running.stats("slow")["in_flight"] == 2, "the calls")

    assert running.producer.cancel(job.id) is True

    result = running.producer.result(job.id)
    assert result.state == "cancelled"
    assert {part.state for part in result.parts} == {"cancelled"}
    started = time.monotonic()
    wait_for(lambda: running.stats("slow")["in_flight"] == 0, "the end of the calls")
    assert time.monotonic() - started < 5
    assert running.producer.cancel(job.id) is False


def test_jobs_that_wait_are_cancelled_and_never_asked(running):
    jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(10)])
    wait_for(lambda: running.stats("slow")["in_flight"] == 2, "the calls")
    wait_for(lambda: running.redis.zcard(redis_keys.waiting_list("slow")) == 6, "the backlog")

    for job in jobs:
        running.producer.cancel(job.id)

    wait_for(lambda: running.redis.zcard(redis_keys.claims("slow")) == 0, "the places to be free")
    wait_for(lambda: running.stats("slow")["in_flight"] == 0, "the end of the calls")
    assert running.redis.zcard(redis_keys.waiting_list("slow")) == 0
    assert running.stats("slow")["requests"] == 2


def test_message_of_a_job_cancelled_while_it_was_admitted_asks_nothing(running):
    jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(10)])
    wait_for(lambda: running.redis.zcard(redis_keys.waiting_list("slow")) == 6, "the backlog")
    for job in jobs:
        running.producer.cancel(job.id)
    last = CallId(jobs[-1].id, 0)

    publish(running.valkey.url, lambda publisher: publisher.send_calls([Admitted(last, "slow")]))

    worker = running.workers[1]
    wait_for(lambda: f"tasks.call[{last}] succeeded" in worker.log or "Traceback" in worker.log, "its end")
    assert f"tasks.call[{last}] succeeded" in worker.log
    assert running.stats("slow")["requests"] <= 2


def test_job_that_does_not_exist_can_not_be_cancelled(running):
    with pytest.raises(JobNotFound, match="no job"):
        running.producer.cancel("0" * 26)
