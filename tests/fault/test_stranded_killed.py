"""kill -9 of a whole pool: its work goes to another candidate, or waits until the pool is back."""

from __future__ import annotations

from collections import Counter

import pytest

from tests import redis_keys
from tests.harness import DEADLINE, Finals, Fleet, fleet, wait_for
from tests.recorder import Say, recorder

CAPACITY = 4
STRATEGIES = ("round_robin", "consistent_hash", "least_connections")


@pytest.fixture
def killed(tmp_path):
    """Two models, of which `doomed` never answers while it says so: its calls hang until their worker is killed."""
    hanging = [True]
    says = {"doomed": lambda _: Say(delay=600.0 if hanging[0] else 0.0), "good": lambda _: Say()}
    with recorder(says) as models:
        configured = {name: {"base_url": models.url, "capacity": CAPACITY} for name in says}
        routes = {name: {"models": ["doomed", "good"], "strategy": name} for name in STRATEGIES}
        with (
            fleet(tmp_path, models=configured, simulations={"none": {}}, routes=routes) as running,
            Finals(running) as finals,
        ):
            yield running, models, finals, hanging


def dead(running: Fleet, model: str) -> bool:
    """Whether no worker has reported the model for ten seconds, by the server's clock."""
    store = running.redis
    seconds, micros = store.time()
    served_until = store.hget(redis_keys.SERVED, model)
    return served_until is not None and seconds * 1000 + micros // 1000 > int(served_until)


def start_jobs(running: Fleet, models, requests):
    """Submit, and wait until the doomed model has calls that run and calls that are queued."""
    jobs = running.producer.submit_many(requests)
    store = running.redis
    wait_for(lambda: models.of["doomed"].in_flight == CAPACITY, "calls that run")
    wait_for(lambda: store.llen("model.doomed") > 0, "calls that are queued")
    return jobs


def test_killed_pool_s_calls_succeed_elsewhere_and_end_once(killed):
    running, models, finals, _ = killed
    _, first, second, _ = running.start_all(
        [("route,join", 4), ("model.doomed", CAPACITY // 2), ("model.doomed", CAPACITY // 2), ("model.good", CAPACITY)]
    )
    requests = [
        {"text": f"{strategy} {number}", "route": strategy} for strategy in STRATEGIES for number in range(12)
    ] + [
        {"kind": "sections", "items": [f"item {number}" for number in range(12)], "route": "round_robin"},
        {"kind": "vote", "text": "which?", "n": 8, "early_stop": "off", "route": "round_robin"},
    ]
    jobs = start_jobs(running, models, requests)
    for worker in (first, second):
        worker.kill()

    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]

    assert Counter(result.state for result in results) == {"succeeded": len(jobs)}
    assert {part.model for result in results for part in result.parts} == {"good"}
    assert {finals.of(job.id) for job in jobs} == {1}
    # What was queued there was asked once, what ran there twice.
    assert len(models.of["good"].times) == 36 + 12 + 8
    attempts = Counter(part.attempts for result in results for part in result.parts)
    assert attempts == {1: 36 + 12 + 8 - CAPACITY, 2: CAPACITY}
    assert any(move.why == "dead" for result in results for part in result.parts for move in part.moved)
    store = running.redis
    for kind in ("single", "part"):
        wait_for(lambda kind=kind: not store.zcard(redis_keys.claims("doomed", kind=kind)), "the end of all leases")

    # From now on no call is sent there, whatever the strategy.
    wait_for(lambda: dead(running, "doomed"), "the pool's death")
    later = running.producer.submit_many(
        [{"text": f"{number}", "route": name} for name in STRATEGIES for number in "ab"]
    )
    ended = [running.producer.wait(job.id, timeout=DEADLINE) for job in later]
    assert {(result.state, result.parts[0].model, result.parts[0].moved) for result in ended} == {
        ("succeeded", "good", ())
    }


def test_killed_pool_s_calls_wait_for_it_without_another_candidate(killed):
    running, models, finals, hanging = killed
    _, pool = running.start_all([("route,join", 2), ("model.doomed", CAPACITY)])
    requests = [{"text": f"{number}", "model": "doomed"} for number in range(12)]
    requests.append({"kind": "sections", "items": ["one", "two", "three"], "model": "doomed"})
    jobs = start_jobs(running, models, requests)
    pool.kill()
    wait_for(lambda: dead(running, "doomed"), "the pool's death")
    late = running.producer.submit({"text": "late", "model": "doomed"})
    wait_for(lambda: running.producer.result(late.id).state == "waiting", "a call that waits")
    assert Counter(running.producer.result(job.id).final for job in jobs) == {False: len(jobs)}

    hanging[0] = False
    running.start("model.doomed", CAPACITY)

    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in (*jobs, late)]
    assert Counter(result.state for result in results) == {"succeeded": len(jobs) + 1}
    assert {part.moved for result in results for part in result.parts} == {()}
    assert {finals.of(job.id) for job in (*jobs, late)} == {1}
    assert len(models.of["good"].times) == 0


def test_serving_marks_are_set_at_the_start_and_removed_at_the_end(killed):
    running, _, _, _ = killed
    one, other = running.start_all([("model.doomed,model.good", 2), ("model.doomed", 2)])
    store = running.redis

    def serving() -> Counter[str]:
        return Counter(mark.partition("|")[2] for mark in store.zrange(redis_keys.SERVING, 0, -1))

    wait_for(lambda: serving() == {"doomed": 2, "good": 1}, "the marks")
    other.stop()
    assert serving() == {"doomed": 1, "good": 1}

    # Queues that are added and cancelled at run time count, too.
    running.celery("control", "cancel_consumer", "model.good")
    wait_for(lambda: serving() == {"doomed": 1}, "the mark that goes")
    running.celery("control", "add_consumer", "model.good")
    wait_for(lambda: serving() == {"doomed": 1, "good": 1}, "the mark that comes")
    one.stop()
    assert serving() == {}
