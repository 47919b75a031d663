"""Steps of the limiter for the tests of `limiter.lua`: attempts that are granted, denied, released or failed."""

from __future__ import annotations

import asyncio
import itertools

from tasks.config.config import Config
from tasks.config.models import Price
from tasks.contract.result import RateLimits
from tasks.ledger.limiter import AttemptEnd, Demand, Denied, Grant
from tests import redis_keys

MODELS = ("fast", "slow")
ids = (f"p:{number}" for number in itertools.count())
#: Longer than any schedule here: every attempt is granted, with the time of its start.
FOREVER = 1e6
LIMITER = redis_keys.limiter("fast")


async def empty(ledger):
    """The same ledger on an empty server."""
    await ledger.store.run(("FLUSHALL",))
    return ledger


def config_of(*, fast=None, slow=None, keys=None):
    models = {"fast": {"provider": "simulated", **(fast or {})}, "slow": {"provider": "simulated", **(slow or {})}}
    return Config.model_validate(
        {
            "models": models,
            "keys": keys or {},
            "routes": {"only": {"models": list(models)}},
            "default_route": "only",
        }
    )


async def configure(ledger, *, window=60.0, **sections):
    config = config_of(**sections)
    await ledger.fleet.configure({name: model.capacity for name, model in config.models.items()})
    await ledger.limiter.configure(config, window=window)


def demand(model="fast", *, tokens=10, price=(0.0, 0.0), payer="", output=0):
    return Demand(next(ids), model, tokens, output, Price(input=price[0], output=price[1]), payer)


async def acquire(ledger, model="fast", **more):
    grant = await ledger.limiter.acquire(demand(model, **more))
    assert isinstance(grant, Grant), grant
    return grant


async def acquire_denied(ledger, model="fast", **more):
    denied = await ledger.limiter.acquire(demand(model, **more))
    assert isinstance(denied, Denied), denied
    return denied


async def release(ledger, grant, outcome="ok", **more):
    return await ledger.limiter.release(grant, AttemptEnd(outcome, **more))


async def fail(ledger, times, outcome="fault", model="fast", **more):
    for _ in range(times):
        await release(ledger, await acquire(ledger, model), outcome, **more)


async def breaker(ledger, model="fast"):
    return (await ledger.limiter.states([model]))[model].breaker


def heaviest_window(starts, window):
    """The largest weight within any window: `starts` are pairs of seconds and weight."""
    starts = sorted(starts)
    # A wait is given in whole milliseconds.
    return max(
        sum(weight for at, weight in starts[place:] if at < start + window - 0.003)
        for place, (start, _) in enumerate(starts)
    )


async def schedule(ledger, sizes, gaps=(), **more):
    """The moments at which calls of these sizes may start, asked one after the other with these gaps between."""
    starts = []
    for size, gap in itertools.zip_longest(sizes, gaps[: len(sizes)], fillvalue=0.0):
        wanted = demand(tokens=size, **more)
        # The server's own clock, in the same breath: how busy this machine is doesn't show in it.
        now, granted = await ledger.store.run(ledger.fleet.now(), ledger.limiter.acquire(wanted, horizon=FOREVER))
        starts.append((now + granted.wait_s, size))
        if gap:
            await asyncio.sleep(gap)
    return starts


def evenly(limit, left):
    """What a provider says whose bucket of a minute fills evenly."""
    return RateLimits(requests_limit=limit, requests_left=left, requests_reset_s=60 * (limit - left) / limit)
