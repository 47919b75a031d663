"""Predicted quality: how likely each candidate answers a job well, where the strategy asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from tasks.config.config import Config
from tasks.contract.job import Job
from tasks.routing.options import is_predicting


class Predictor(Protocol):
    """`tasks.routing.quality` has the real one."""

    def predict(self, text: str) -> Mapping[str, float]:
        """The probability, for each model that it knows, that its answer to `text` is good."""
        ...

    def predict_all(self, texts: Sequence[str]) -> Any:
        """The same for many: rows of probabilities, in the order of `models`."""
        ...

    @property
    def models(self) -> Sequence[str]: ...


#: Fits the predictor when it is first awaited; None where the configuration names no outcomes.
PredictorSource: TypeAlias = Callable[[], Awaitable["Predictor | None"]]


def needs_prediction(job: Job, route: str, config: Config) -> bool:
    """Whether the strategy that will choose for this job reads a prediction, and there is one to be had."""
    if config.outcomes is None or job.fixed_model is not None:
        return False
    return is_predicting(job.strategy or config.all_routes[route].strategy)


async def predict_quality(
    source: PredictorSource, job: Job, route: str, config: Config, texts: Sequence[str]
) -> list[Mapping[str, float]]:
    """One prediction for each text; empty ones where the strategy reads none."""
    if not needs_prediction(job, route, config) or (predictor := await source()) is None:
        return [{} for _ in texts]
    # A prediction takes milliseconds, so a thread makes it.
    rows = await asyncio.to_thread(predictor.predict_all, texts)
    return [dict(zip(predictor.models, map(float, row), strict=True)) for row in rows]
