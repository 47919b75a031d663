"""Strategies that look at how much each model has to do. None binds: whichever has room first takes the call."""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat

from tasks.routing.snapshot import Preference, Ranking, Request, Snapshot
from tasks.routing.strategies.chance import shares
from tasks.routing.strategies.declare import strategy

#: A step between equals, below every difference that counts.
TINY = 1e-9
#: What is added to the score of a model that shall only be taken where no other has room.
LAST = 1e6


@lru_cache(maxsize=1024)
def rotation(count: int, turn: int) -> tuple[float, ...]:
    """What is added to the scores of `count` models so that equals take turns.

    Without it an idle fleet would send everything to the first.
    """
    return tuple([((place - turn) % count) * TINY for place in range(count)])


@strategy(traits=False)
def least_connections(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """The fewest calls in flight over capacity."""
    turns = rotation(len(candidates), snapshot.turn % len(candidates))
    return Ranking(
        tuple(map(Preference, candidates, turns, repeat(1.0))),
        bound=False,
        reason="the fewest calls in flight over capacity",
    )


@strategy(traits=False)
def power_of_two(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """The less loaded of two that are drawn at random (Mitzenmacher, 2001): no herd, whatever the snapshot's age."""
    open_ = [model for model in candidates if not snapshot.models[model].closed] or list(candidates)
    if len(open_) > 1:
        first, second = shares(request.seed, 2)
        one = int(first * len(open_))
        other = int(second * (len(open_) - 1))
        pair = [open_[one], open_[other + (other >= one)]]
    else:
        pair = open_
    # Of two that are equally loaded the one that was drawn first: an idle fleet is not served by one alone.
    bases = {model: place * TINY for place, model in enumerate(pair)}
    preferences = tuple([Preference(model, bases.get(model, LAST), 1.0) for model in candidates])
    return Ranking(preferences, bound=False, reason=f"the less loaded of {' and '.join(sorted(pair))}, drawn at random")
