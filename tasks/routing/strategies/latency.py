"""Strategies that look at how long each model takes: peak EWMA, and Prequal."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks.contract.validation import Value
from tasks.routing.snapshot import ModelLoad, Preference, Ranking, Request, Snapshot
from tasks.routing.strategies.chance import shares
from tasks.routing.strategies.declare import strategy
from tasks.routing.strategies.load import LAST, TINY, rotation

#: Seconds that a model is left alone after its first failure, twice as long after each further one, and at most.
FIRST_AVOIDANCE_S, LONGEST_AVOIDANCE_S = 2.0, 60.0
#: Seconds after which what is known of a model that is as quick as the best is stale, and of one that is much slower.
STALE_S, LONGEST_STALE_S = 6.0, 120.0
#: Of the calls, at most one in so many goes to a model to find out how it does.
EXPLORE_ONE_IN = 20
#: The score that sends the next call to a model, and the slope that makes it the only one.
NOW, ALONE = -1.0, 1e5
#: The share of failures at which a model's expected time is taken twenty times its latency; more is not believed.
MOST_ERRORS = 0.95
#: The load from which a call waits in the model's queue, a shade below 1: what has just so much is full.
FULL = 1 - 1e-6


@strategy(traits=False)
def least_latency(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:  # noqa: ARG001 - a Strategy
    """The least expected time: latency by peak EWMA, over the share that succeeds, times the calls before it.

    ``latency / (1 − errors) · (1 + pending · mean capacity / capacity)``: linkerd's `PeakEwma`, cost · (pending + 1),
    where all capacities are equal; of a model that is half as large each call in flight weighs twice. After failures a
    model is left alone for a while (failure bias), for a fast error is not a fast answer. What was never seen, or not
    for long, gets one call at a time: the slower a model was found, the more seldom it is looked at again.
    """
    models = snapshot.models
    loads = [models[model] for model in candidates]
    known, count = _expected(loads), len(loads)
    mean = sum([load.capacity for load in loads]) / count
    ties = rotation(count, snapshot.turn % count)
    # The usual case in one go, then what is special: this runs for every job.
    preferences = [
        Preference(model, seconds + tie, seconds * mean)
        for model, seconds, tie in zip(candidates, known, ties, strict=True)
    ]
    for place in _special_places(loads):
        special = _special(candidates[place], loads, known, place, ties[place])
        if special is not None:
            preferences[place] = special
    return Ranking(tuple(preferences), bound=False, reason="the least expected time: latency times calls before it")


def avoidance_s(faults: int) -> float:
    """Seconds without calls for a model after so many failures in a row."""
    return min(LONGEST_AVOIDANCE_S, FIRST_AVOIDANCE_S * 2.0 ** min(faults - 1, 16))


def exploration_interval_s(ratio: float, between_s: float) -> float:
    """Seconds after which a model that was `ratio` times slower than the best gets one call again.

    The price of this exploration is the latency of one call: the slower the model, the longer the interval.
    `between_s` are the mean seconds between two calls: at most one in `EXPLORE_ONE_IN` calls explores.
    """
    return max(min(STALE_S * ratio, LONGEST_STALE_S), EXPLORE_ONE_IN * between_s)


def _special_places(loads: Sequence[ModelLoad]) -> list[int]:
    """The places of models that fail, that never answered, or whose figures are stale."""
    return [place for place, load in enumerate(loads) if load.faults or load.seen_s > STALE_S or load.latency_s is None]


def _special(
    model: str, loads: Sequence[ModelLoad], known: Sequence[float], place: int, tie: float
) -> Preference | None:
    """The preference for such a model; None where it is treated as any other."""
    load, seconds = loads[place], known[place]
    if load.faults and load.fault_s < avoidance_s(load.faults):
        return Preference(model, LAST * load.faults + tie, 1.0)
    capacity = load.capacity or 1
    if load.latency_s is None or load.faults:
        return Preference(model, NOW + tie, ALONE * capacity)
    best = min([seconds for seconds, other in zip(known, loads, strict=True) if other.latency_s is not None])
    calls = sum([other.calls_per_s for other in loads])
    if load.seen_s > exploration_interval_s(seconds / best, 1 / calls if calls else 0.0):
        return Preference(model, NOW + tie, (2 * seconds - NOW) * capacity)
    return None


def _expected(loads: Sequence[ModelLoad]) -> list[float]:
    """Seconds until a model has answered, failures included; what never answered is odd, and has some figure."""
    # Not min(): a call of a function each would be a quarter of the decision.
    return [
        (load.latency_s or TINY) / (1 - (load.errors if load.errors < MOST_ERRORS else MOST_ERRORS))  # noqa: FURB136
        for load in loads
    ]


class Prequal(Value):
    """Options of `prequal`."""

    #: Models with more calls in flight than this share of all have are hot; the paper's 2^-0.25.
    hot: float = Field(default=0.84, gt=0, le=1)
    #: Models that are looked at, drawn at random; the paper's pool of probes has 16.
    probes: int = Field(default=16, ge=2, le=1000)


@strategy(options=Prequal, traits=False)
def prequal(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """Of those that are not hot the quickest; where all are hot, the one with the fewest calls in flight.

    The hot-cold rule of Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024): hot
    is a model whose calls in flight, over its capacity, exceed the quantile `hot` of all, and one that is full. Their
    probes are our live state, which is shared, so none is sent; what fails, is not known or was not seen for long is
    treated as `least_latency` does. Each call that another router sends meanwhile counts as the time that it takes.
    """
    options = request.options_as(Prequal)
    count = len(candidates)
    drawn = candidates if count <= options.probes else _drawn(candidates, options.probes, request.seed)
    models = snapshot.models
    loads = [models[model] for model in drawn]
    known = _expected(loads)
    mean = sum([load.capacity for load in loads]) / len(loads)
    flying = [load.load for load in loads]
    # Where a call would have to wait is hot, however few are in flight elsewhere.
    limit = min(_quantile(flying, options.hot), FULL)
    ties = rotation(len(loads), snapshot.turn % len(loads))
    preferences = [
        Preference(model, LAST / 4 + tie, 1.0)
        if fly > limit
        else Preference(model, seconds * (1 - mean * fly) + tie, seconds * mean)
        for model, seconds, fly, tie in zip(drawn, known, flying, ties, strict=True)
    ]
    cold = sum([fly <= limit for fly in flying])
    for place in _special_places(loads):
        special = _special(drawn[place], loads, known, place, ties[place])
        if special is not None:
            preferences[place] = special
    if len(loads) < count:
        left = set(candidates).difference(drawn)
        preferences += [Preference(model, LAST / 2, 1.0) for model in candidates if model in left]
    return Ranking(tuple(preferences), bound=False, reason=f"the quickest of {cold} that are not hot")


def _drawn(candidates: tuple[str, ...], probes: int, seed: int) -> tuple[str, ...]:
    """`probes` of them, each as likely; or those that are left out are drawn, where these are fewer."""
    count = len(candidates)
    draws = min(probes, count - probes)
    places: set[int] = set()
    # Floyd's way to draw without repetition (Bentley, Floyd, "Programming pearls: a sample of brilliance", 1987).
    for last, share in zip(range(count - draws, count), shares(seed, draws), strict=True):
        place = int(share * (last + 1))
        places.add(last if place in places else place)
    wanted = draws == probes
    return tuple([model for place, model in enumerate(candidates) if (place in places) == wanted])


def _quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two values next to it: with few models, the busiest is hot where it stands out."""
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    low = int(place)
    if low + 1 >= len(ranked) or ranked[low + 1] == ranked[low]:
        return ranked[low]
    return ranked[low] + (place - low) * (ranked[low + 1] - ranked[low])
