"""A second call that races a slow first one: the first answer wins, the other call is broken off.

What a hedge may cost is bounded over the whole fleet: each call earns its model a share of one (`limits.lua`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.calling.attempt import Attempt
    from tasks.config import Hedge
    from tasks.ports import ModelClients

__all__ = ["Pace", "race"]

#: Latencies that are remembered of each model, and the fewest that tell its 95th percentile.
REMEMBERED, FEWEST = 200, 20
#: Tokens of an answer before this process has heard of any; `limits.lua` starts with the same.
FIRST_MEAN = 256.0


class Pace:
    """How long the models of this process took lately, and how long their answers are."""

    def __init__(self) -> None:
        self._latencies: dict[str, deque[float]] = {}
        self._means: dict[str, float] = {}

    def saw(self, model: str, latency_s: float) -> None:
        self._latencies.setdefault(model, deque(maxlen=REMEMBERED)).append(latency_s)

    def learn(self, model: str, mean_output: float) -> None:
        """The fleet's mean of this model's answers, in tokens."""
        self._means[model] = mean_output

    def mean_output(self, model: str) -> float:
        return self._means.get(model, FIRST_MEAN)

    def patience(self, model: str, hedge: Hedge | None) -> float | None:
        """Seconds after which a call of `model` is hedged; None where it is not."""
        if hedge is None or hedge.after != "p95":
            return hedge.after if hedge is not None and isinstance(hedge.after, float) else None
        known = sorted(self._latencies.get(model, ()))
        return known[len(known) * 95 // 100] if len(known) >= FEWEST else None


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
