"""Consistent hashing: equal keys go to one model, and few keys move when a model joins or leaves."""

from __future__ import annotations

import math

from pydantic import Field

from tasks.contract.validation import Value
from tasks.routing.snapshot import Preference, Ranking, Request, Snapshot
from tasks.routing.strategies.chance import PRIME, hashed, line
from tasks.routing.strategies.declare import strategy


class Hashing(Value):
    """Options of `consistent_hash`."""

    #: A model may have this many times its even share of the calls in flight; null: no bound.
    factor: float | None = Field(default=1.25, ge=1.0, le=1000, allow_inf_nan=False)
    #: What is hashed where a job names no key: a name in its metadata, such as ``tenant``; by default its input.
    metadata: str | None = Field(default=None, min_length=1)


@strategy(options=Hashing)
def consistent_hash(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """Always the same model for a key, by weighted rendezvous hashing; with bounded load the next takes what overflows.

    Every model draws −ln(h) / weight from the hash of key and name; the least wins (Thaler, Ravishankar, 1998;
    Schindelhauer, Schomaker, 2005). When one of n leaves, only its keys move, 1/n of all. The bound is that of
    Mirrokni, Thorup, Zadimoghaddam (2016): at most ⌈c · mean⌉ calls, c = 1.25 by default. Binds early.
    """
    options = request.options_as(Hashing)
    key = request.key
    if options.metadata is not None and not request.key_given:
        key = str(request.metadata.get(options.metadata, key))
    number = hashed(key)
    ranked = sorted(
        [
            (-math.log(((slope * number + intercept) % PRIME + 0.5) / PRIME) / request.traits_of(model).weight, model)
            for model in candidates
            for slope, intercept in [line(model)]
        ]
    )
    preferences = tuple([Preference(model, float(place)) for place, (_, model) in enumerate(ranked)])
    bound = f", unless it has {options.factor:g} times its share" if options.factor is not None else ""
    outcome = f"the key's hash falls to {ranked[0][1]}{bound}"
    return Ranking(preferences, bound=True, reason=outcome, balance=options.factor)
