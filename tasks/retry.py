"""Try a failed model call again, or not: a decision over values; who sleeps and sends is the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import RetryableModelError

if TYPE_CHECKING:
    import random

    from tasks.errors import ModelError

__all__ = ["Fail", "Retry", "decide"]

#: Seconds: the ceiling of the first delay, doubled each attempt; about one short model call.
BASE_S = 0.5
#: Seconds: the highest ceiling; past it a longer wait only delays finding out that the model is back.
CAP_S = 30.0
#: Seconds: the longest `retry_after` that is obeyed; providers send hours for a spent budget, which a breaker handles.
RETRY_AFTER_CAP_S = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again `delay_s` seconds from now."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up: the part fails with `reason`."""

    reason: str


def decide(error: ModelError, attempt: int, *, limit: int, rng: random.Random) -> Retry | Fail:
    """Decide what follows `error`, which ended attempt number `attempt` (the first is 1) of at most `limit`.

    Only a `RetryableModelError` is tried again. The delay is full jitter, uniform in [0, min(30, 0.5 · 2^(attempt-1))]
    seconds (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): it spreads calls that failed
    together. When the provider asked for `retry_after`, the jitter comes on top of it, so it is a lower bound and the
    calls it holds back do not return in one instant; at most 300 seconds of it are obeyed.
    """
    if not isinstance(error, RetryableModelError):
        return Fail(f"{error}; it would fail the same way again")
    if attempt >= limit:
        return Fail(f"{error}; gave up after {attempt} of {limit} attempts")
    # The exponent is bounded before the power: attempt 2,000 is a large number, not an overflow.
    ceiling = min(CAP_S, BASE_S * 2.0 ** min(max(attempt, 1) - 1, 16))
    asked = error.retry_after
    # `not > 0` also drops NaN, which would make every comparison with the delay false.
    floor = min(asked, RETRY_AFTER_CAP_S) if asked is not None and asked > 0 else 0.0
    return Retry(floor + rng.uniform(0.0, ceiling))
