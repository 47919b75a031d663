"""The strategies: pure functions of (request, candidates, snapshot).

A strategy doesn't choose, it says how much each candidate is wanted as an affine function of that candidate's load;
admission evaluates it with the load of the moment, in the same step that admits the call. So two routers that read
the same snapshot can't both send to the model that was idle in it.

`turns` gives each its share, `load` and `latency` look at what goes on, `adaptive` at both, `hashing` keeps equal keys
together, `specialists` choose a model for what it is good at.
"""

from __future__ import annotations

from tasks.routing.strategies.adaptive import adaptive
from tasks.routing.strategies.hashing import consistent_hash
from tasks.routing.strategies.latency import least_latency, prequal
from tasks.routing.strategies.load import least_connections, power_of_two
from tasks.routing.strategies.specialists import contextual, cost_quality, profile
from tasks.routing.strategies.turns import random, round_robin, weighted_random, weighted_round_robin

__all__ = [
    "adaptive",
    "consistent_hash",
    "contextual",
    "cost_quality",
    "least_connections",
    "least_latency",
    "power_of_two",
    "prequal",
    "profile",
    "random",
    "round_robin",
    "weighted_random",
    "weighted_round_robin",
]
