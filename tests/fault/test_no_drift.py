"""kill -9 of everything that counts calls in flight: what they held is no load once its lease has lapsed."""

from __future__ import annotations

import asyncio

from tasks.ledger import Ledger
from tests.harness import fleet, wait_for

MODELS = {"one": {"capacity": 6}, "two": {"capacity": 6}}


def loads(running):
    """The calls of each model as a strategy sees them."""

    async def look():
        ledger = Ledger(running.valkey.url, MODELS)
        try:
            return {name: load.pending for name, load in (await ledger.fleet.snapshot(tuple(MODELS))).models.items()}
        finally:
            await ledger.close()

    return asyncio.run(look())


def test_calls_in_flight_count_no_longer_than_their_leases_after_kill_9(tmp_path):
    simulations = {name: {"latency": 300.0} for name in MODELS}
    routes = {"both": {"models": list(MODELS), "strategy": "least_latency"}}
    with fleet(tmp_path, models=MODELS, simulations=simulations, routes=routes, default_route="both") as running:
        workers = running.start_all([("route,join", 4), ("model.one", 6), ("model.two", 6)])
        running.producer.submit_many([{"text": f"job {number}"} for number in range(10)])
        wait_for(lambda: sum(running.stats(name)["in_flight"] for name in MODELS) == 10, "ten calls in flight")
        assert sum(loads(running).values()) == 10

        for worker in workers:
            worker.kill()

        wait_for(lambda: sum(running.stats(name)["in_flight"] for name in MODELS) == 0, "the end of the calls")
        wait_for(lambda: not any(loads(running).values()), "the end of all leases")
