"""Weights that follow how each model does."""

from __future__ import annotations

import math
from statistics import median

from pydantic import Field

from tasks.contract.validation import Value
from tasks.routing.snapshot import Preference, Ranking, Request, Snapshot
from tasks.routing.strategies.chance import shares
from tasks.routing.strategies.declare import strategy

#: Every model that is open gets at least this share of the calls: without calls it cannot show a recovery.
FLOOR = 0.002
#: Seconds, the lower bound of a latency.
LEAST_S = 1e-6
#: Assumed latency in seconds where no model has answered yet.
FIRST_GUESS_S = 1.0


class Adaptive(Value):
    """Options of `adaptive`: how strongly each figure counts; 0 leaves it out."""

    latency: float = Field(default=2.0, ge=0, le=10)
    errors: float = Field(default=4.0, ge=0, le=100)
    queue_wait: float = Field(default=1.0, ge=0, le=10)


@strategy(options=Adaptive)
def adaptive(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """Drawn by weights that follow latency, failures and queue wait (`adapted`)."""
    weights = adapted(request, candidates, snapshot)
    keys = zip(candidates, shares(request.seed, len(candidates)), strict=True)
    preferences = tuple([Preference(model, -math.log(u) / weights[model]) for model, u in keys])
    leader = max(weights, key=weights.__getitem__)
    return Ranking(
        preferences, bound=False, reason=f"drawn by weights of this moment, {leader} leads with {weights[leader]:.0%}"
    )


def adapted(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> dict[str, float]:
    """The share of the calls that each model is meant to get now; they sum to 1.

    ``weight · capacity · (1 − errors)^e · 2^−faults / (latency + w · queue wait)^a`` with the exponents of the options,
    and at least `FLOOR`. Weights move as the averages they are made of do: none jumps on one sample.
    """
    options = request.options_as(Adaptive)
    latency, errors, queue_wait = options.latency, options.errors, options.queue_wait
    loads = [snapshot.models[model] for model in candidates]
    seen = [load.latency_s for load in loads if load.latency_s is not None]
    usual = median(seen) if seen else FIRST_GUESS_S
    raw = {}
    for model, load in zip(candidates, loads, strict=True):
        seconds = (usual if load.latency_s is None else load.latency_s) + queue_wait * load.queue_wait_s
        weight = request.traits_of(model).weight * (load.capacity or 1) / max(seconds, LEAST_S) ** latency
        if load.errors or load.faults:
            weight *= (1 - load.errors) ** errors * 0.5 ** min(load.faults, 20)
        raw[model] = weight
    total = sum(raw.values())
    rest = 1 - FLOOR * len(candidates)
    if total <= 0 or rest <= 0:
        return dict.fromkeys(candidates, 1 / len(candidates))
    return {model: FLOOR + rest * weight / total for model, weight in raw.items()}
