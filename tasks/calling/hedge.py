"""A hedge: a second attempt that races a slow first one (Dean and Barroso, "The Tail at Scale", 2013)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tasks.calling.attempt import Attempt
from tasks.contract.job import CallId, Job
from tasks.contract.model_client import ModelClients
from tasks.ledger.limiter import Demand, Denied, Grant, estimate_cost
from tasks.queue.ports import Ports
from tasks.routing.budget import FIRST_MEAN


async def race(
    first: Attempt, delay: float, clients: ModelClients, acquire: Callable[[], Awaitable[Attempt | None]]
) -> Attempt:
    """Send `first`, and what `acquire` returns beside it when it has not ended `delay` seconds from its start.

    Returns the attempt that answered, or `first` if none did. The other one has ended or was cancelled then.
    """
    attempts = {asyncio.ensure_future(first.send(clients)): first}
    try:
        await asyncio.wait(attempts, timeout=first.grant.wait_s + delay)
        if not any(task.done() for task in attempts) and (hedge := await acquire()) is not None:
            attempts[asyncio.ensure_future(hedge.send(clients))] = hedge
        pending = set(attempts)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
                if attempts[task].reply is not None:
                    return attempts[task]
        return first
    finally:
        for task in attempts:
            task.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def acquire_hedge(ports: Ports, name: CallId, job: Job, first: Grant, demand: Demand) -> Grant | Denied:
    """Acquire what an attempt needs that races `first`; the job's budget is booked for both."""
    limiter, budget = ports.ledger.limiter, job.budget_usd
    if budget is None:
        return await limiter.acquire(demand, horizon=0.0)
    jobs = ports.ledger.jobs
    usd = first.cost_usd + estimate_cost(demand, limiter.mean_outputs.get(demand.model, FIRST_MEAN))
    word, left = await jobs.book(name.job, name.index, first.id, usd=usd, budget=budget)
    if word != "ok":
        return Denied("job_budget", left_usd=left)
    granted = await limiter.acquire(demand, horizon=0.0)
    if isinstance(granted, Denied):
        await jobs.book(name.job, name.index, first.id, usd=first.cost_usd, budget=budget)
    return granted
