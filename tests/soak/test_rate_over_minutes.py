"""The limit of a minute over several minutes: too long for every change, so `make soak` runs it."""

from __future__ import annotations

import time

from tests import redis_keys
from tests.harness import fleet, wait_for
from tests.recorder import Say, recorder

RPM = 600
#: Seconds of load: every window of sixty seconds that lies in it is looked at.
LOAD = 150.0
#: Arrivals are what the limit is for; the way from a grant to the model has jitter.
GUARD = 1.01


def most_in_a_minute(times):
    """The most arrivals of any window of 60 s."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 60.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_rpm_of_600_holds_and_is_used_while_a_worker_is_killed(tmp_path):
    with recorder({"paced": lambda _: Say(delay=0.3)}) as models:
        configured = {"paced": {"base_url": models.url, "capacity": 60, "rpm": RPM}}
        with fleet(tmp_path, models=configured, simulations={"none": {}}) as running:
            _, victim, *_ = running.start_all([("route,join", 16), *[("model.paced", 20)] * 3])
            jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(int(RPM * LOAD / 60) + RPM)])
            times = models.of["paced"].times
            wait_for(lambda: len(times) > 1, "the first calls")
            started = times[0]
            wait_for(lambda: time.monotonic() > started + LOAD / 3, "a third of the load", within=LOAD)
            victim.kill()
            running.start("model.paced", 20)
            wait_for(lambda: time.monotonic() > started + LOAD, "the whole load", within=LOAD)

            seen = [at for at in times if at <= started + LOAD]
            assert most_in_a_minute(seen) <= RPM * GUARD
            assert len(seen) >= 0.95 * RPM * LOAD / 60
            for job in jobs[len(seen) + 100 :]:
                running.producer.cancel(job.id)
            # What the killed worker held was given back: nothing stays taken.
            redis = running.redis
            wait_for(lambda: not redis.zcount(redis_keys.leases("paced"), time.time() * 1000, "+inf"), "the end")
