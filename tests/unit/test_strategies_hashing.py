"""Consistent hashing: equal keys together, few keys moved, shares by weight, and a bound on what piles up."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.routing.choose import pick_model
from tasks.routing.snapshot import ModelLoad, Snapshot, Traits
from tasks.routing.strategies import consistent_hash
from tasks.routing.strategies.hashing import Hashing
from tests.snapshots import UNLIKELY, chi_square, idle, names, request

UNBOUND = Hashing(factor=None)
KEYS = [f"key {number}" for number in range(2000)]


def owner(key, models, **facts):
    ranking = consistent_hash(request(key=key, options=UNBOUND, **facts), tuple(models), Snapshot(1, {}))
    return ranking.preferences[0].model


def owners(models, keys=KEYS, **facts):
    return {key: owner(key, models, **facts) for key in keys}


def named(seed, count):
    """Names as people give them: what they are called must not matter."""
    chance = Random(f"{seed} {count}")
    return [f"{chance.choice(['gpt', 'claude', 'llama', 'm'])}-{chance.getrandbits(20)}" for _ in range(count)]


@given(key=st.text(), models=st.permutations(names(6)), turn=st.integers(0, 10**6), seed=st.integers(0, 2**64 - 1))
def test_key_has_one_model_whatever_the_order_the_turn_and_the_chance(key, models, turn, seed):
    asked = request(seed, key=key, options=UNBOUND)
    assert consistent_hash(asked, tuple(models), Snapshot(turn, idle(6))).preferences[0].model == owner(key, names(6))


@given(key=st.text(), left=st.sampled_from(names(6)))
def test_keys_of_other_models_stay_when_one_leaves(key, left):
    before = owner(key, names(6))
    after = owner(key, [model for model in names(6) if model != left])
    assert after == before or before == left


@given(key=st.text(), weights=st.lists(st.floats(0.01, 100), min_size=4, max_size=4), factor=st.floats(1.0, 100.0))
def test_model_whose_weight_grows_loses_no_key(key, weights, factor):
    models = names(4)
    traits = {model: Traits(weight=weight) for model, weight in zip(models, weights, strict=True)}
    heavier = {**traits, "m0": Traits(weight=weights[0] * factor)}
    before, after = owner(key, models, traits=traits), owner(key, models, traits=heavier)
    assert after in {before, "m0"}


@pytest.mark.parametrize("count", [3, 8, 20])
def test_share_of_keys_that_move_is_that_of_the_one_that_joins(count):
    """Mean at most 1.15/n, the worst of 100 fleets at most 1.5/n, n the larger number of models."""
    moved = []
    for seed in range(100):
        models = named(seed, count)
        moved.append(mean(owner(key, models) == models[-1] for key in KEYS[:800]))
    assert mean(moved) <= 1.15 / count
    assert max(moved) <= 1.5 / count


@pytest.mark.parametrize("count", range(3, 21))
def test_keys_move_to_a_model_that_joins_and_nowhere_else(count):
    models = named("joins", count)
    before, after = owners(models[:-1], KEYS[:300]), owners(models, KEYS[:300])
    moved = {key for key in before if before[key] != after[key]}
    assert moved == {key for key in after if after[key] == models[-1]}


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_keys_are_spread_evenly(count):
    counts = Counter(owners(names(count)).values())
    assert chi_square([counts[model] for model in names(count)], [1] * count) < UNLIKELY[count - 1]


def test_keys_are_spread_by_weight():
    weights = (1, 2, 5)
    traits = {model: Traits(weight=weight) for model, weight in zip(names(3), weights, strict=True)}
    counts = Counter(owners(names(3), traits=traits).values())
    assert chi_square([counts[model] for model in names(3)], weights) < UNLIKELY[2]


def test_second_choices_of_one_model_s_keys_are_spread_too():
    """When it leaves, its keys must not all fall onto one neighbour, as on a ring without many points."""
    seconds = Counter(
        consistent_hash(request(key=key, options=UNBOUND), names(4), Snapshot(1, {})).preferences[1].model
        for key, first in owners(names(4), [f"k{number}" for number in range(6000)]).items()
        if first == "m0"
    )
    assert chi_square([seconds[model] for model in ("m1", "m2", "m3")], [1, 1, 1]) < UNLIKELY[2]


@given(tenant=st.text(min_size=1), first=st.text(), second=st.text())
def test_consistent_hash_may_hash_an_entry_of_the_metadata(tenant, first, second):
    options = Hashing(metadata="tenant")
    asked = [request(key=key, metadata={"tenant": tenant}, options=options) for key in (first, second)]
    rankings = [consistent_hash(one, names(5), Snapshot(1, {})) for one in asked]
    assert rankings[0] == rankings[1]


def test_consistent_hash_prefers_the_job_s_key_then_metadata_then_input():
    options, models = Hashing(metadata="tenant"), names(5)
    for number in range(50):
        key, other = f"k{number}", {"tenant": "t"}
        given_key = request(key=key, key_given=True, metadata=other, options=options)
        nothing = request(key=key, metadata={}, options=options)
        assert consistent_hash(given_key, models, Snapshot(1, {})).preferences[0].model == owner(key, models)
        assert consistent_hash(nothing, models, Snapshot(1, {})).preferences[0].model == owner(key, models)


def zipf(chance, keys):
    """The number of a key, few of which are asked for most of the time."""
    return int(math.exp(chance.random() * math.log(keys)))


@settings(max_examples=30, deadline=None)
@given(
    capacities=st.lists(st.integers(1, 30), min_size=2, max_size=8),
    factor=st.floats(1.0, 3.0),
    calls=st.integers(1, 120),
    seed=st.integers(0, 10**6),
)
def test_under_the_keys_that_people_ask_no_model_has_more_than_its_bound(capacities, factor, calls, seed):
    chance, models, options = Random(seed), names(len(capacities)), Hashing(factor=factor)
    fleet = {model: ModelLoad(capacity=capacity) for model, capacity in zip(models, capacities, strict=True)}
    snapshot, counts = Snapshot(1, fleet), Counter()
    for number in range(calls):
        asked = request(key=f"key {zipf(chance, 50)}", options=options)
        taken = pick_model(consistent_hash(asked, models, snapshot), snapshot)
        counts[taken] += 1
        snapshot = snapshot.after(taken)
        share = fleet[taken].capacity / sum(capacities)
        assert counts[taken] <= math.ceil(factor * (number + 1) * share)


def test_consistent_hash_without_a_bound_keeps_a_popular_key_together():
    fleet = {model: ModelLoad(capacity=10, singles=20 if model == owner("k", names(4)) else 0) for model in names(4)}
    for options, moved in ((UNBOUND, False), (Hashing(), True)):
        ranking = consistent_hash(request(key="k", options=options), names(4), Snapshot(1, fleet))
        assert (pick_model(ranking, Snapshot(1, fleet)) != owner("k", names(4))) is moved


def test_consistent_hash_overflow_goes_to_the_next_model_and_returns():
    ranking = consistent_hash(request(key="k", options=Hashing()), names(4), Snapshot(1, {}))
    first, second = (preference.model for preference in ranking.preferences[:2])
    full = {model: ModelLoad(capacity=10, singles=20 if model == first else 1) for model in names(4)}
    assert pick_model(ranking, Snapshot(1, full)) == second
    assert pick_model(ranking, Snapshot(1, idle(4))) == first
