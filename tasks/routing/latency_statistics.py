"""Latencies of the models that one worker process asks."""

from __future__ import annotations

from collections import deque

from tasks.config.models import Hedge

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
