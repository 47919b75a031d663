"""The transport under a real Celery worker."""

from __future__ import annotations

from tests.harness import fleet, wait_for


def test_a_warm_shutdown_leaves_nothing_reserved_and_stock_commands_reach_the_worker(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 4}}, simulations={"fast": {"latency": 0.5}}) as running:
        worker = running.start("route,join,model.fast", 8)
        jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(4)])
        wait_for(lambda: running.stats("fast")["in_flight"] == 4, "the calls")
        assert "pong" in running.celery("inspect", "ping").stdout
        worker.stop()
        store = running.redis
        assert (store.hlen("unacked"), store.zcard("unacked_index")) == (0, 0)
        assert "Traceback" not in worker.log
        running.start("route,join,model.fast", 8)
        assert {running.producer.wait(job.id, timeout=60).state for job in jobs} == {"succeeded"}
