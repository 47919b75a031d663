"""What strategies are tested with: fleets as hypothesis draws them, and what admission makes of a ranking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from tasks.routing.choose import pick_model
from tasks.routing.options import strategies, strategy_named
from tasks.routing.snapshot import ModelLoad, Ranking, Request, Snapshot, Traits

#: All strategies that are installed.
ALL: tuple[str, ...] = tuple(sorted(strategies()))
#: Of these, the ones whose calls wait for their model by default.
BOUND: frozenset[str] = frozenset({"round_robin", "weighted_round_robin", "consistent_hash"})

SEEDS = st.integers(0, 2**64 - 1)
#: A strategy with its options.
Choose = Callable[[Request, tuple[str, ...], Snapshot], Ranking]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"m{place}" for place in range(count))


def request(seed: int = 0, **facts: Any) -> Request:
    return Request(route="r", key=facts.pop("key", "k"), seed=seed, **facts)


#: Any state of a model that the ledger may report, however unlikely.
LOADS = st.builds(
    ModelLoad,
    capacity=st.integers(0, 64),
    singles=st.integers(0, 128),
    parts=st.integers(0, 2000),
    bound=st.integers(0, 1000),
    closed=st.sampled_from(["", "", "", "breaker", "paused"]),
    latency_s=st.none() | st.floats(0.0, 3600.0),
    seen_s=st.just(float("inf")) | st.floats(0.0, 1e6),
    faults=st.integers(0, 50),
    fault_s=st.just(float("inf")) | st.floats(0.0, 1e6),
    errors=st.floats(0.0, 1.0),
    queue_wait_s=st.floats(0.0, 3600.0),
    calls_per_s=st.floats(0.0, 1e4),
)
_METRIC = st.sampled_from(["speed", "accuracy", "creativity", "ethics", "cost"])
_TRAITS = st.builds(
    Traits,
    weight=st.floats(1e-6, 1e6),
    cost_usd=st.floats(0.0, 100.0),
    scores=st.dictionaries(_METRIC, st.floats(0.0, 100.0), max_size=3),
)
_QUALITY = st.none() | st.floats(0.0, 1.0)
_FLEETS = st.lists(st.tuples(LOADS, _TRAITS, _QUALITY), min_size=1, max_size=5)
_METADATA = st.sampled_from([{}, {"topic": "a"}, {"tenant": None, "topic": 1}])


def _case(
    fleet: Sequence[tuple[ModelLoad, Traits, float | None]],
    key: str,
    seed: int,
    turn: int,
    metric: str | None,
    data: Any,
) -> tuple[Request, tuple[str, ...], Snapshot]:
    models = names(len(fleet))
    asked = Request(
        route="r",
        key=key,
        seed=seed,
        metadata=data,
        priority_metric=metric,
        traits={model: its for model, (_, its, _) in zip(models, fleet, strict=True)},
        quality={model: its for model, (_, _, its) in zip(models, fleet, strict=True) if its is not None},
    )
    return asked, models, Snapshot(turn, {model: load for model, (load, _, _) in zip(models, fleet, strict=True)})


#: Any request to any fleet.
CASES = st.builds(_case, _FLEETS, st.text(max_size=5), SEEDS, st.integers(0, 10**9), st.none() | _METRIC, _METADATA)


def chosen(choose: Choose, asked: Request, snapshot: Snapshot) -> str:
    """The model that gets the call where all have room."""
    return pick_model(choose(asked, tuple(snapshot.models), snapshot), snapshot)


def tally(
    name: str, fleet: Mapping[str, ModelLoad], calls: int, *, seed: int = 1, busy: bool = False, **facts: Any
) -> Counter[str]:
    """How many of `calls` decisions, one after the other, fall to each model; `busy`: each stays in flight."""
    chance, choose, snapshot = Random(seed), strategy_named(name), Snapshot(1, fleet)
    counts: Counter[str] = Counter(dict.fromkeys(fleet, 0))
    for number in range(calls):
        asked = request(chance.getrandbits(64), key=f"key {number}", **facts)
        taken = chosen(choose, asked, snapshot)
        counts[taken] += 1
        after = snapshot.after(taken)
        snapshot = after if busy else Snapshot(after.turn, fleet)
    return counts


def idle(count: int, *, capacity: int = 10, **figures: Any) -> dict[str, ModelLoad]:
    """As many models without any calls."""
    return {model: ModelLoad(capacity=capacity, **figures) for model in names(count)}


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The chi-square statistic of counts against the shares that they are meant to have."""
    total, whole = sum(counts), sum(shares)
    meant = [total * share / whole for share in shares]
    return sum((count - mean) ** 2 / mean for count, mean in zip(counts, meant, strict=True))


#: The statistic's value that chance exceeds once in a thousand, by degrees of freedom.
UNLIKELY: Mapping[int, float] = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 7: 24.32, 9: 27.88, 19: 43.82}
