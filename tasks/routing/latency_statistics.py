"""Latencies of a worker process's models, and the lengths of their answers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.config.models import Hedge

__all__ = ["FEWEST", "LatencyStatistics"]

#: Latencies that are kept of each model, and the fewest that have a 95th percentile.
MOST, FEWEST = 200, 20

#: Tokens of an answer before the first is known; `limiter.lua` starts with the same.
FIRST_MEAN = 256.0


class LatencyStatistics:
    """The latest latencies of each model in this process, and the fleet's mean lengths of answers."""

    def __init__(self) -> None:
        self._latencies: dict[str, deque[float]] = {}
        self._means: dict[str, float] = {}

    def record(self, model: str, latency_s: float) -> None:
        self._latencies.setdefault(model, deque(maxlen=MOST)).append(latency_s)

    def record_mean_output(self, model: str, tokens: float) -> None:
        """Keep the fleet's mean length of this model's answers, in tokens."""
        self._means[model] = tokens

    def mean_output(self, model: str) -> float:
        return self._means.get(model, FIRST_MEAN)

    def hedge_delay(self, model: str, hedge: Hedge | None) -> float | None:
        """Seconds after which a call of `model` is hedged; None where it is not."""
        if hedge is None or hedge.after != "p95":
            return hedge.after if hedge is not None and isinstance(hedge.after, float) else None
        known = sorted(self._latencies.get(model, ()))
        return known[len(known) * 95 // 100] if len(known) >= FEWEST else None
