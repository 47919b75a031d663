"""Strategies that give each model its share of the calls, whatever its load: in turn, or by chance."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from tasks.contract.validation import Value
from tasks.routing.snapshot import Preference, Ranking, Request, Snapshot
from tasks.routing.strategies.chance import shares
from tasks.routing.strategies.declare import strategy

Weight = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]

#: Turns of the longest cycle: weights that need more are rounded to fit.
LONGEST_CYCLE = 10_000


class Weights(Value):
    """Options of the weighted strategies."""

    #: By model; one that is not named has the weight of its own configuration, by default 1.
    weights: Mapping[str, Weight] = Field(default_factory=dict)


@strategy(traits=False)
def round_robin(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """One after the other, over all routers. Binds early: the call waits for the model whose turn it is."""
    serving = _serving(candidates, snapshot)
    first = (snapshot.turn - 1) % len(serving)
    order = serving[first:] + serving[:first]
    return Ranking(
        _in_order(order, candidates),
        bound=True,
        reason=f"turn {snapshot.turn} of {len(serving)} models falls to {order[0]}",
    )


@strategy(options=Weights)
def weighted_round_robin(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """In turn, each as often as its weight says, and never many times in a row (smooth, as nginx does it).

    Binds early, as `round_robin` does. With weights 5, 1, 1 the turns are a a b a c a a.
    """
    serving = _serving(candidates, snapshot)
    cycle, places = _cycle(_weights(request, serving))
    now = (snapshot.turn - 1) % len(cycle)
    # The rest in the order of their next turns.
    order = sorted(range(len(serving)), key=lambda index: _next(places[index], now, len(cycle)))
    return Ranking(
        _in_order([serving[index] for index in order], candidates),
        bound=True,
        reason=f"turn {now + 1} of {len(cycle)} by weight falls to {serving[cycle[now]]}",
    )


@strategy(traits=False)
def random(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """Any of them, each as likely. A model without room is passed over for the next of a random order."""
    return _drawn(candidates, shares(request.seed, len(candidates)), "drawn at random")


@strategy(options=Weights)
def weighted_random(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """Any of them, each as likely as its weight says: an order without replacement (Efraimidis, Spirakis, 2006)."""
    weights = _weights(request, candidates)
    keys = (-math.log(u) / w for u, w in zip(shares(request.seed, len(candidates)), weights, strict=True))
    return _drawn(candidates, keys, "drawn at random, by weight")


def _drawn(candidates: tuple[str, ...], keys: object, reason: str) -> Ranking:
    return Ranking(tuple(map(Preference, candidates, keys)), bound=False, reason=reason)  # type: ignore[call-overload]


def _in_order(serving: Sequence[str], candidates: tuple[str, ...]) -> tuple[Preference, ...]:
    """Those whose turn it may be in this order; then the others, which may have opened once one of these has closed."""
    rest = [] if len(serving) == len(candidates) else [model for model in candidates if model not in serving]
    return tuple([Preference(model, float(place)) for place, model in enumerate([*serving, *rest])])


def _serving(candidates: tuple[str, ...], snapshot: Snapshot) -> tuple[str, ...]:
    """The models whose turn it may be: one without capacity has none, unless all are so; nor has a closed one."""
    models = snapshot.models
    return (
        tuple([model for model in candidates if models[model].capacity and not models[model].closed])
        or tuple([model for model in candidates if models[model].capacity])
        or candidates
    )


def _weights(request: Request, models: Sequence[str]) -> tuple[float, ...]:
    given = request.options_as(Weights).weights
    return tuple([given.get(model) or request.traits_of(model).weight for model in models])


@lru_cache(maxsize=256)
def _cycle(weights: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """One cycle of smooth weighted round robin: whose turn it is at each place, and the places of each model.

    Each turn every model gains its weight, the one that has most is taken and pays the sum of all weights (nginx,
    commit 52327e0627, 2012).
    """
    counts = _whole(weights)
    total, current = sum(counts), [0] * len(counts)
    cycle: list[int] = []
    places: list[list[int]] = [[] for _ in counts]
    for place in range(total):
        current = [have + gain for have, gain in zip(current, counts, strict=True)]
        taken = max(range(len(counts)), key=current.__getitem__)
        current[taken] -= total
        cycle.append(taken)
        places[taken].append(place)
    return tuple(cycle), tuple(map(tuple, places))


def _next(places: Sequence[int], now: int, cycle: int) -> int:
    """A model's first turn from `now` on."""
    found = bisect_left(places, now)
    return places[found] if found < len(places) else places[0] + cycle


def _whole(weights: Sequence[float]) -> list[int]:
    """The least whole numbers in the same proportions; rounded, at least 1 each, where their sum were too large."""
    largest = max(weights)
    exact = [Fraction(weight / largest).limit_denominator(LONGEST_CYCLE) for weight in weights]
    scale = math.lcm(*(share.denominator for share in exact))
    counts = [int(share * scale) for share in exact]
    if not all(counts) or sum(counts) // math.gcd(*counts) > LONGEST_CYCLE:
        total = sum(weights)
        counts = [max(1, round(weight / total * LONGEST_CYCLE)) for weight in weights]
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts]
