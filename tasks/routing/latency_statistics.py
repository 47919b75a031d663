"""What a worker process knows of how long its models take, and how long their answers are."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.config.models import Hedge

__all__ = ["FEWEST", "LatencyStatistics"]

#: Latencies that are remembered of each model, and the fewest that tell its 95th percentile.
REMEMBERED, FEWEST = 200, 20

#: Tokens of an answer before this process has heard of any; `limiter.lua` starts with the same.
FIRST_MEAN = 256.0


class LatencyStatistics:
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
