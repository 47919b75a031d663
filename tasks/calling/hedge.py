"""A second call that races a slow first one: the first answer wins, the other call is broken off.

What a hedge may cost is bounded over the whole fleet: each call earns its model a share of one (`limiter.lua`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.calling.attempt import Attempt
    from tasks.contract.model_client import ModelClients

__all__ = ["race"]


async def race(
    first: Attempt, clients: ModelClients, *, after: float | None, second: Callable[[], Awaitable[Attempt | None]]
) -> Attempt:
    """Run `first`, and beside it, when it has not ended `after` seconds from its start, what `second` has granted.

    Returns the attempt that answered, or the first if none did. The others have ended or were cancelled then.
    """
    if after is None:
        await first.run(clients.of(first.grant.model))
        return first
    attempts = {_start(first, clients): first}
    try:
        await asyncio.wait(attempts, timeout=first.grant.wait_s + after)
        if not any(task.done() for task in attempts) and (rival := await second()) is not None:
            attempts[_start(rival, clients)] = rival
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


def _start(attempt: Attempt, clients: ModelClients) -> asyncio.Task[None]:
    return asyncio.ensure_future(attempt.run(clients.of(attempt.grant.model)))
