"""Strategies that look at how much each model has to do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.routing.snapshot import ModelLoad, Snapshot
from tasks.routing.strategies import least_connections, power_of_two
from tests.snapshots import SEEDS, UNLIKELY, chi_square, chosen, idle, names, request, tally

FLEETS = st.lists(
    st.builds(ModelLoad, capacity=st.integers(1, 50), singles=st.integers(0, 100), parts=st.integers(0, 100)),
    min_size=2,
    max_size=8,
)


def snapshot_of(fleet, turn=1):
    return Snapshot(turn, dict(zip(names(len(fleet)), fleet, strict=True)))


@given(fleet=FLEETS, turn=st.integers(0, 10**9))
def test_least_connections_takes_the_least_load_over_capacity(fleet, turn):
    snapshot = snapshot_of(fleet, turn)
    taken = chosen(least_connections, request(), snapshot)
    assert snapshot.models[taken].load == min(load.load for load in fleet)


@given(fleet=FLEETS, turn=st.integers(0, 10**9))
def test_least_connections_compares_calls_over_capacity_and_not_calls(fleet, turn):
    doubled = [ModelLoad(capacity=2 * load.capacity, singles=2 * load.singles, parts=2 * load.parts) for load in fleet]
    assert chosen(least_connections, request(), snapshot_of(fleet, turn)) == chosen(
        least_connections, request(), snapshot_of(doubled, turn)
    )


@given(capacities=st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_calls_that_stay_fill_all_models_evenly(capacities):
    fleet = {model: ModelLoad(capacity=capacity) for model, capacity in zip(names(6), capacities, strict=False)}
    assert tally("least_connections", fleet, 3 * sum(capacities), busy=True) == {
        model: 3 * load.capacity for model, load in fleet.items()
    }


@given(fleet=FLEETS, seed=SEEDS)
def test_worst_of_all_is_never_the_less_loaded_of_two(fleet, seed):
    snapshot = snapshot_of(fleet)
    worst = max(load.load for load in fleet)
    assume(sum(load.load == worst for load in fleet) == 1)
    assert snapshot.models[chosen(power_of_two, request(seed), snapshot)].load < worst


@given(fleet=FLEETS, seed=SEEDS)
def test_power_of_two_takes_one_of_its_two_and_names_both(fleet, seed):
    snapshot = snapshot_of(fleet)
    ranking = power_of_two(request(seed), tuple(snapshot.models), snapshot)
    pair = [preference.model for preference in ranking.preferences if preference.base < 1]
    assert len(pair) == 2
    assert all(model in ranking.reason for model in pair)
    taken = chosen(power_of_two, request(seed), snapshot)
    assert snapshot.models[taken].load == min(snapshot.models[model].load for model in pair)


@given(seed=SEEDS, closed=st.sampled_from(names(5)))
def test_two_are_drawn_from_those_that_are_open(seed, closed):
    fleet = {model: ModelLoad(capacity=1, closed="breaker" if model == closed else "") for model in names(5)}
    ranking = power_of_two(request(seed), names(5), Snapshot(1, fleet))
    assert closed not in {preference.model for preference in ranking.preferences if preference.base < 1}


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_on_an_idle_fleet_power_of_two_gives_each_the_same_share(count):
    counts = tally("power_of_two", idle(count), 4000, seed=2)
    assert chi_square(list(counts.values()), [1] * count) < UNLIKELY[count - 1]


def test_power_of_two_draws_every_pair_equally_often():
    pairs = Counter(
        frozenset(
            preference.model
            for preference in power_of_two(request(seed), names(5), Snapshot(1, idle(5))).preferences
            if preference.base < 1
        )
        for seed in range(5000)
    )  # fmt: skip
    assert len(pairs) == 10
    assert chi_square(list(pairs.values()), [1] * 10) < UNLIKELY[9]


def test_two_choices_pile_up_far_less_than_one():
    """200 calls on 200 models: ln ln n / ln 2 + O(1) is about 3, and ln n / ln ln n grows beyond it."""
    worst = {name: [max(tally(name, idle(200, capacity=1), 200, seed=seed, busy=True).values()) for seed in range(10)]
             for name in ("power_of_two", "random")}  # fmt: skip
    assert max(worst["power_of_two"]) <= 4
    assert sum(worst["random"]) >= sum(worst["power_of_two"]) + 10
