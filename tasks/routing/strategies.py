"""The strategies: pure functions of (request, candidates, snapshot).

A strategy doesn't choose, it says how much each candidate is wanted as an affine function of that candidate's load;
the feeder evaluates it with the load of the moment, in the same step that admits the call. So two routers that read
the same snapshot can't both send to the model that was idle in it.
"""

from __future__ import annotations

from tasks.routing.snapshot import Preference, Ranking, Request, Snapshot

__all__ = ["least_connections", "round_robin"]


def round_robin(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """One after the other, over all routers. Binds early: the call waits for the model whose turn it is."""
    # A model that is scaled to zero has no turn, unless all are: the call would wait for ever.
    serving = tuple(model for model in candidates if snapshot.models[model].capacity) or candidates
    first = (snapshot.turn - 1) % len(serving)
    order = serving[first:] + serving[:first]
    preferences = tuple(Preference(model, base=float(place)) for place, model in enumerate(order))
    return Ranking(preferences, bound=True, reason=f"turn {snapshot.turn} of {len(serving)} models falls to {order[0]}")


def least_connections(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """The fewest calls in flight over capacity. Waits unbound: whichever candidate has room first takes the call."""
    # Equal loads take turns: without this an idle fleet would send everything to the first.
    count = len(candidates)
    preferences = tuple(
        Preference(model, base=((place - snapshot.turn) % count) * 1e-9, slope=1.0)
        for place, model in enumerate(candidates)
    )
    return Ranking(preferences, bound=False, reason="the fewest calls in flight over capacity")
