"""Messages that an operator revokes by Celery's own control: what they stand for ends, and nothing is sent for ever."""

from __future__ import annotations

import pytest

from tasks.contract.job import new_id
from tests import redis_keys
from tests.harness import DEADLINE, fleet, wait_for

MODELS = {"slow": {"capacity": 1}, "quick": {"capacity": 4}}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    simulations = {"slow": {"latency": 45.0}, "quick": {}}
    with fleet(tmp_path_factory.mktemp("revoked"), models=MODELS, simulations=simulations) as running:
        running.start_all([("route,join,model.quick", 4), ("model.slow", 1)])
        yield running


def revoke(running, message, *, running_too=False):
    words = ("terminate", "SIGTERM") if running_too else ("revoke",)
    done = running.celery("control", *words, message)
    assert done.returncode == 0, done.stderr


def wait_until_nothing_is_left(running):
    wait_for(lambda: running.redis.zcard(redis_keys.claims("slow")) == 0, "the end of all leases")
    assert running.redis.llen("model.slow") == 0


def test_queued_call_that_is_revoked_ends_as_cancelled(running):
    first, second = running.producer.submit_many([{"text": "x", "model": "slow"}] * 2)
    wait_for(lambda: running.redis.llen("model.slow") == 1, "the second message")
    revoke(running, f"{second.id}.0")
    running.producer.cancel(first.id)
    result = running.producer.wait(second.id, timeout=DEADLINE)
    assert (result.state, result.parts[0].state) == ("cancelled", "cancelled")
    assert result.error == f"its message {second.id}.0 was revoked"
    wait_until_nothing_is_left(running)


def test_running_call_that_is_terminated_ends_as_cancelled(running):
    job = running.producer.submit({"text": "x", "model": "slow"})
    wait_for(lambda: running.stats("slow")["in_flight"] == 1, "the call")
    asked = running.stats("slow")["requests"]
    revoke(running, f"{job.id}.0", running_too=True)
    assert running.producer.wait(job.id, timeout=DEADLINE).state == "cancelled"
    wait_for(lambda: running.stats("slow")["in_flight"] == 0, "the end of the call")
    assert running.stats("slow")["requests"] == asked


@pytest.mark.parametrize(("policy", "state"), [("partial", "succeeded"), ("fail", "failed")])
def test_part_that_is_revoked_fails_and_the_policy_decides(running, policy, state):
    ident = new_id()
    revoke(running, f"{ident}.1.0")
    items = {"kind": "sections", "items": ["a", "b", "c"], "model": "quick"}
    running.producer.submit({"id": ident, **items, "policy": policy})
    result = running.producer.wait(ident, timeout=DEADLINE)
    assert result.state == state
    assert result.parts[1].error == "cancelled: its message was revoked"
    assert result.parts[1].attempts == 0


def test_part_that_is_terminated_while_it_runs_fails(running):
    items = {"kind": "sections", "items": ["a", "b"], "model": "slow"}
    job = running.producer.submit(items)
    wait_for(lambda: running.stats("slow")["in_flight"] == 1, "the first call")
    index = next(part.index for part in running.producer.result(job.id).parts if part.state == "running")
    revoke(running, f"{job.id}.{index}.0", running_too=True)
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, result.parts[index].state) == ("failed", "failed")
    assert result.parts[index].error == "cancelled: its message was revoked"


@pytest.mark.parametrize("step", ["route", "fanout.0", "join.0"])
def test_job_whose_other_message_is_revoked_ends_as_cancelled(running, step):
    ident = new_id()
    revoke(running, f"{ident}.{step}")
    running.producer.submit({"id": ident, "kind": "sections", "items": ["a", "b"], "model": "quick"})
    result = running.producer.wait(ident, timeout=DEADLINE)
    assert (result.state, result.error) == ("cancelled", f"its message {ident}.{step} was revoked")


def test_revoked_messages_are_not_sent_again_and_again(running):
    ident = new_id()
    revoke(running, f"{ident}.0")
    running.producer.submit({"id": ident, "text": "x", "model": "quick"})
    assert running.producer.wait(ident, timeout=DEADLINE).state == "cancelled"
    wait_for(lambda: running.redis.zscore(redis_keys.ACTIVE_JOBS, ident) is None, "the end of the sweeper's checks")
    assert sum(worker.log.count(f"messages_lost calls=['{ident}") for worker in running.workers) == 0
