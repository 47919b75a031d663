"""A server that takes no writes for a while, as during a failover: no model is asked twice, and nothing is lost."""

from __future__ import annotations

import threading
import time

import pytest

from producer.api.problems import problem_of
from tasks.contract.errors import Unreachable
from tests.harness import DEADLINE, fleet, wait_for

#: Seconds: longer than a lease, so that every lease lapses meanwhile.
AWAY = 10.0


def test_calls_in_flight_outlive_a_promotion_and_ask_no_model_twice(tmp_path):
    models = {"slow": {"capacity": 4}, "quick": {"capacity": 4}}
    simulations = {"slow": {"latency": 4.0}, "quick": {"latency": 14.0}}
    with fleet(tmp_path, models=models, simulations=simulations) as running:
        workers = running.start_all([("route,join", 4), ("model.slow", 4), ("model.quick", 4)])
        jobs = running.producer.submit_many([{"text": "x", "model": name} for name in ("slow", "slow", "quick")])
        vote = running.producer.submit({"kind": "vote", "text": "x", "n": 2, "model": "quick", "early_stop": "off"})
        wait_for(lambda: running.stats("slow")["in_flight"] == 2, "the calls")
        wait_for(lambda: running.stats("quick")["in_flight"] == 3, "the calls that outlast it")
        server = running.redis

        server.execute_command("REPLICAOF", "127.0.0.1", "1")
        back = threading.Timer(AWAY, lambda: server.execute_command("REPLICAOF", "NO", "ONE"))
        back.start()
        try:
            with pytest.raises(Unreachable, match="not ready: ReadOnlyError") as caught:
                running.producer.submit({"text": "x", "model": "slow"})
            assert problem_of(caught.value).status == 503
            started = time.monotonic()
            results = [running.producer.wait(job.id, timeout=DEADLINE) for job in (*jobs, vote)]
            assert time.monotonic() - started > AWAY / 2
        finally:
            back.join()
        assert {result.state for result in results} == {"succeeded"}
        assert (running.stats("slow")["requests"], running.stats("quick")["requests"]) == (2, 3)
        assert {part.attempts for result in results for part in result.parts} == {1}
        # The same processes work on.
        again = running.producer.submit({"text": "x", "model": "slow"})
        assert running.producer.wait(again.id, timeout=DEADLINE).state == "succeeded"
        assert [worker.process.poll() for worker in workers] == [None] * 3
