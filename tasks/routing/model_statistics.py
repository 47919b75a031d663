"""Statistics of a model by its attempts: the formulas of `limiter.lua`, which keeps them in Redis, as pure functions.

The latency is a peak EWMA, as in Finagle and linkerd (`PeakEwma.scala`): a slower sample counts at once, a faster one
with weight 1 − e^(−Δt/τ), τ = 10 s. A sample is normalized to the model's usual answer, so that a long completion is
not taken for a slow model: ``took · (usual + 50) / (tokens + 50)``; 50 tokens stand for the time before the first one.
A failure never lowers it (a fast 503 is not fast): failures in a row and their smoothed share are kept apart, and the
strategies weigh them. An attempt that was broken off, or failed late, raises the latency to the time that it lasted.

The simulation of `ops/bench` runs on this module; a test compares it with the script, sample by sample.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tasks.config.models import Hedge

#: Seconds after which an old peak counts 1/e: linkerd's default.
DECAY_S = 10.0
#: Weight of a new sample in the plain averages.
SMOOTH = 0.1
#: Tokens of an answer that take as long as a call does before its first token.
PREFILL_TOKENS = 50.0
#: Weight of a new answer in the mean length of a model's answers.
MEAN_WEIGHT = 0.05

#: How an attempt ended. fault: the model failed. unusable: it serves no call. throttled: it is over its limit. neutral:
#: it refused this input only. cancelled: broken off while it ran. unasked: granted, and not sent.
Outcome: TypeAlias = Literal["ok", "fault", "unusable", "throttled", "neutral", "cancelled", "unasked"]
_BAD = frozenset({"fault", "unusable", "throttled"})


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """One model. Times are in seconds, `…_at` on the server's clock."""

    latency_s: float | None = None
    latency_at: float = 0.0
    faults: int = 0
    fault_at: float | None = None
    errors: float = 0.0
    queue_wait_s: float | None = None
    token_s: float | None = None
    mean_output: float | None = None


def observe(
    known: ModelStatistics,
    now: float,
    outcome: Outcome,
    took_s: float,
    waited_s: float | None = None,
    output_tokens: int | None = None,
) -> ModelStatistics:
    """Return the statistics after one more attempt.

    It took `took_s` seconds, its call stood `waited_s` seconds in the queue, its answer has `output_tokens`.
    """
    if outcome == "unasked":
        return known
    good, bad = outcome in {"ok", "neutral"}, outcome in _BAD
    after = known
    if outcome == "ok":
        after = _observe_answer(known, now, took_s, output_tokens or None)
    elif known.latency_s is not None and took_s > known.latency_s and (bad or outcome == "cancelled"):
        after = replace(known, latency_s=took_s, latency_at=now)
    if good:
        after = replace(after, faults=0, fault_at=None, errors=known.errors * (1 - SMOOTH))
    elif bad:
        after = replace(after, faults=known.faults + 1, fault_at=now, errors=known.errors * (1 - SMOOTH) + SMOOTH)
    if waited_s is not None:
        after = replace(after, queue_wait_s=_smooth(known.queue_wait_s, waited_s))
    return after


def _observe_answer(known: ModelStatistics, now: float, took_s: float, tokens: int | None) -> ModelStatistics:
    latency, mean, token_s = took_s, known.mean_output, known.token_s
    if tokens is not None:
        usual = tokens if mean is None else mean
        latency *= (usual + PREFILL_TOKENS) / (tokens + PREFILL_TOKENS)
        mean = usual + MEAN_WEIGHT * (tokens - usual)
        token_s = _smooth(token_s, took_s / (tokens + PREFILL_TOKENS))
    if known.latency_s is not None and latency < known.latency_s:
        keep = math.exp(-(now - known.latency_at) / DECAY_S)
        latency = known.latency_s * keep + latency * (1 - keep)
    return replace(known, latency_s=latency, latency_at=now, mean_output=mean, token_s=token_s)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old * (1 - SMOOTH) + new * SMOOTH


#: Latencies that are kept of each model, and the fewest that have a 95th percentile.
MOST, FEWEST = 200, 20


class LatencyStatistics:
    """The latest latencies of each model that hedges, in this process."""

    def __init__(self) -> None:
        self._latencies: dict[str, deque[float]] = {}

    def record(self, model: str, latency_s: float) -> None:
        self._latencies.setdefault(model, deque(maxlen=MOST)).append(latency_s)

    def hedge_delay(self, model: str, hedge: Hedge) -> float | None:
        """Seconds after which a call of `model` is hedged; None where too few latencies are known."""
        if isinstance(hedge.after, float):
            return hedge.after
        known = sorted(self._latencies.get(model, ()))
        return known[len(known) * 95 // 100] if len(known) >= FEWEST else None
