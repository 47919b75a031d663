"""kill -9 of workers: what they took of the limits is free again when its lease has lapsed, and not sooner."""

from __future__ import annotations

import time

from tests import redis_keys
from tests.harness import DEADLINE, fleet, wait_for
from tests.recorder import Say, recorder

CAPACITY = 8


def test_killed_workers_leave_no_lease_behind(tmp_path):
    with recorder({"busy": lambda _: Say(delay=1.0)}) as models:
        configured = {"busy": {"base_url": models.url, "capacity": CAPACITY, "api_key_env": "SOME_KEY"}}
        keys = {"SOME_KEY": {"concurrency": CAPACITY}}
        with fleet(tmp_path, models=configured, simulations={"none": {}}, keys=keys) as running:
            _, *workers = running.start_all([("route,join", 4)] + [("model.busy", CAPACITY)] * 4)
            jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(60)])
            leases = [redis_keys.leases("busy"), redis_keys.leases("SOME_KEY", kind="key")]

            store = running.redis

            def good(key: str) -> set[str]:
                """Leases that are good now, by the server's clock."""
                seconds, micros = store.time()
                return set(store.zrange(key, seconds * 1000 + micros // 1000, "+inf", byscore=True))

            wait_for(lambda: len(good(leases[0])) == CAPACITY, "all places taken")
            for worker in workers[:2]:
                worker.kill()

            # The places of the dead come back with their leases; those of the living came back by their reports.
            before = good(leases[0])
            wait_for(lambda: not before & good(leases[0]), "the end of what was taken before")
            ended = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
            assert {result.state for result in ended} == {"succeeded"}
            assert models.of["busy"].peak <= CAPACITY
            for key in leases:
                wait_for(lambda key=key: not good(key), "the end of all leases")


def test_breaker_admits_another_probe_after_a_killed_one(tmp_path):
    # The first asks for a pause and opens the breaker; the probe never gets an answer; the next one does.
    answers = [Say(status=402, headers={"Retry-After": "1"}), Say(delay=60.0)]
    say = lambda asked: answers[asked] if asked < len(answers) else Say()  # noqa: E731
    with recorder({"shut": say}) as models:
        configured = {"shut": {"base_url": models.url, "capacity": 2}}
        with fleet(tmp_path, models=configured, simulations={"none": {}}) as running:
            _, victim = running.start_all([("route,join", 2), ("model.shut", 4)])
            times = models.of["shut"].times
            job = running.producer.submit({"text": "hello"})
            wait_for(lambda: len(times) == 2, "the probe")
            other = running.producer.submit({"text": "waits while the probe is under way"})
            victim.kill()
            killed = time.monotonic()
            running.start("model.shut", 4)
            assert {running.producer.wait(sent.id, timeout=DEADLINE).state for sent in (job, other)} == {"succeeded"}
            # Nobody came while the dead one's lease was good: renewed once a second, it lasts 6 s.
            assert min(times[2:]) - killed > 3
