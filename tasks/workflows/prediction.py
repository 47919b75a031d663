"""How likely each candidate answers a job well, where the strategy asks for it and outcomes were measured."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.routing.predicting import needs_prediction

if TYPE_CHECKING:
    from tasks.contract.job import Job
    from tasks.queue.ports import Ports

__all__ = ["predicted"]


async def predicted(ports: Ports, job: Job, route: str, texts: Sequence[str]) -> list[Mapping[str, float]]:
    """One prediction for each text; empty ones where none is asked for. It takes milliseconds, so a thread does it."""
    if not needs_prediction(job, route, ports.config) or (predictor := await ports.predictor()) is None:
        return [{} for _ in texts]
    rows = await asyncio.to_thread(predictor.predict_all, texts)
    return [dict(zip(predictor.models, map(float, row), strict=True)) for row in rows]
