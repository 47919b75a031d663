"""What a model's attempts tell of it, kept in Redis by `limiter.lua`: the same formulas, as values.

The latency is a peak EWMA, as in Finagle and linkerd (`PeakEwma.scala`): a slower sample counts at once, a faster one
with weight 1 − e^(−Δt/τ), τ = 10 s. A sample is normalized to the model's usual answer, so that a long completion is
not taken for a slow model: ``took · (usual + 50) / (tokens + 50)``; 50 tokens stand for what a call costs before its
first one. A failure never lowers it (a fast 503 is not fast): failures in a row and their smoothed share are kept
apart, for the strategies to weigh. An attempt that was broken off, or failed late, raises it to the time that it had
lasted.

The simulation of `ops/bench` runs on this module; a test compares it with the script, sample by sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

__all__ = ["DECAY_S", "PREFILL_TOKENS", "SMOOTH", "Live", "Told", "observe"]

#: Seconds after which an old peak counts 1/e: linkerd's default.
DECAY_S = 10.0
#: Weight of a new sample in the plain averages.
SMOOTH = 0.1
#: Tokens of answer that cost as much time as a call's beginning.
PREFILL_TOKENS = 50.0
#: Weight of a new answer in the mean length of a model's answers.
MEAN_WEIGHT = 0.05

#: How an attempt ended, as in `tasks.ledger.limiter.Outcome`.
Ended: TypeAlias = Literal["ok", "fault", "unusable", "throttled", "neutral", "cancelled", "unasked"]
_BAD = frozenset({"fault", "unusable", "throttled"})


@dataclass(frozen=True, slots=True)
class Told:
    """One attempt: seconds that it took and that its call stood in the queue, tokens of its answer."""

    outcome: Ended
    took_s: float
    waited_s: float | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What is known of one model. Times are in seconds, `…_at` on the server's clock."""

    latency_s: float | None = None
    latency_at: float = 0.0
    faults: int = 0
    fault_at: float | None = None
    errors: float = 0.0
    queue_wait_s: float | None = None
    token_s: float | None = None
    mean_output: float | None = None


def observe(live: Live, told: Told, now: float) -> Live:
    """What is known after one more attempt."""
    if told.outcome == "unasked":
        return live
    good, bad = told.outcome in {"ok", "neutral"}, told.outcome in _BAD
    after = live
    if told.outcome == "ok":
        after = _answered(live, told, now)
    elif live.latency_s is not None and told.took_s > live.latency_s and (bad or told.outcome == "cancelled"):
        after = replace(live, latency_s=told.took_s, latency_at=now)
    if good:
        after = replace(after, faults=0, fault_at=None, errors=live.errors * (1 - SMOOTH))
    elif bad:
        after = replace(after, faults=live.faults + 1, fault_at=now, errors=live.errors * (1 - SMOOTH) + SMOOTH)
    if told.waited_s is not None:
        after = replace(after, queue_wait_s=_smooth(live.queue_wait_s, told.waited_s))
    return after


def _answered(live: Live, told: Told, now: float) -> Live:
    tokens = told.output_tokens or None
    sample, mean, token_s = told.took_s, live.mean_output, live.token_s
    if tokens is not None:
        usual = tokens if mean is None else mean
        sample *= (usual + PREFILL_TOKENS) / (tokens + PREFILL_TOKENS)
        mean = usual + MEAN_WEIGHT * (tokens - usual)
        token_s = _smooth(token_s, told.took_s / (tokens + PREFILL_TOKENS))
    if live.latency_s is not None and sample < live.latency_s:
        keep = math.exp(-(now - live.latency_at) / DECAY_S)
        sample = live.latency_s * keep + sample * (1 - keep)
    return replace(live, latency_s=sample, latency_at=now, mean_output=mean, token_s=token_s)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old * (1 - SMOOTH) + new * SMOOTH
