"""Strategies that look at how long each model takes: peak EWMA with failure bias, and Prequal's hot-cold rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.options import read_options
from tasks.routing.snapshot import ModelLoad, Snapshot
from tasks.routing.strategies import least_latency, prequal
from tasks.routing.strategies.latency import EXPLORE_ONE_IN, LONGEST_AVOIDANCE_S, avoidance_s, exploration_interval_s
from tests.snapshots import chosen, names, request

#: Models that are well known: they answered a moment ago.
KNOWN = st.builds(
    ModelLoad,
    capacity=st.just(10),
    singles=st.integers(0, 9),
    latency_s=st.floats(0.01, 10.0),
    seen_s=st.just(0.1),
    calls_per_s=st.just(10.0),
)
FLEETS = st.lists(KNOWN, min_size=2, max_size=6)
BOTH = pytest.mark.parametrize("strategy", [least_latency, prequal], ids=["least_latency", "prequal"])


def snapshot_of(fleet, turn=1):
    return Snapshot(turn, dict(zip(names(len(fleet)), fleet, strict=True)))


def known(latency_s, pending=0, **figures):
    usual = {"capacity": 10, "singles": pending, "latency_s": latency_s, "seen_s": 0.1, "calls_per_s": 10.0}
    return ModelLoad(**{**usual, **figures})


def waiting_for(strategy, snapshot, calls):
    """The models that get `calls` more calls on one snapshot, each of which stays in flight."""
    ranking = strategy(request(), tuple(snapshot.models), snapshot)
    taken = []
    for _ in range(calls):
        taken.append(
            min(
                ranking.preferences, key=lambda preference: preference.score(snapshot.models[preference.model].load)
            ).model
        )
        snapshot = snapshot.after(taken[-1])
    return taken


# -- peak EWMA -----------------------------------------------------------------------------------------


@given(fleet=FLEETS, turn=st.integers(0, 100))
def test_least_of_latency_times_calls_before_it_is_taken(fleet, turn):
    taken = chosen(least_latency, request(), snapshot_of(fleet, turn))
    costs = {model: load.latency_s * (load.pending + 1) for model, load in zip(names(len(fleet)), fleet, strict=True)}
    assert costs[taken] == pytest.approx(min(costs.values()), rel=1e-6)


@pytest.mark.parametrize(("figure", "by"), [("latency_s", 1.0), ("singles", 1), ("errors", 0.2)])
@given(fleet=FLEETS)
def test_model_that_gets_slower_busier_or_fails_is_never_preferred_more(figure, by, fleet):
    worse = [replace(fleet[0], **{figure: getattr(fleet[0], figure) + by}), *fleet[1:]]
    before, after = (
        {preference.model: preference.score(snapshot.models[preference.model].load)
         for preference in least_latency(request(), tuple(snapshot.models), snapshot).preferences}
        for snapshot in (snapshot_of(fleet), snapshot_of(worse))
    )  # fmt: skip
    assert after["m0"] > before["m0"]
    assert all(after[model] == before[model] for model in before if model != "m0")


def test_least_latency_weighs_calls_by_capacity():
    fleet = [known(1.0, 4, capacity=20), known(1.0, 2, capacity=10)]
    assert set(waiting_for(least_latency, snapshot_of(fleet), 2)) == {"m0", "m1"}
    assert waiting_for(least_latency, snapshot_of([fleet[0], known(1.0, 4, capacity=10)]), 1) == ["m0"]


def test_equals_take_turns():
    fleet = [known(0.5)] * 3
    taken = Counter(chosen(least_latency, request(), snapshot_of(fleet, turn)) for turn in range(30))
    assert taken == {"m0": 10, "m1": 10, "m2": 10}


# -- failure bias ----------------------------------------------------------------------------------------


@BOTH
@given(fleet=FLEETS, fast=st.floats(0.001, 0.1), faults=st.integers(1, 20), since=st.floats(0.0, 1.9))
def test_fast_error_is_not_a_fast_answer(strategy, fleet, fast, faults, since):
    """A model that fails in milliseconds is the quickest of all, and yet the last that is asked."""
    failing = known(fast, faults=faults, fault_s=since, errors=0.3)
    snapshot = snapshot_of([failing, *fleet])
    assert chosen(strategy, request(), snapshot) != "m0"
    ranked = sorted(
        strategy(request(), tuple(snapshot.models), snapshot).preferences, key=lambda preference: preference.base
    )
    assert ranked[-1].model == "m0"


@BOTH
def test_least_latency_takes_those_that_failed_least_where_all_fail(strategy):
    fleet = [known(0.1, faults=faults, fault_s=0.1, errors=0.9) for faults in (5, 2, 9)]
    assert chosen(strategy, request(), snapshot_of(fleet)) == "m1"


@given(faults=st.integers(1, 10_000))
def test_avoidance_grows_with_failures_in_a_row_up_to_a_bound(faults):
    now, next_ = avoidance_s(faults), avoidance_s(faults + 1)
    assert 0 < now < next_ <= LONGEST_AVOIDANCE_S or now == next_ == LONGEST_AVOIDANCE_S


@BOTH
@given(faults=st.integers(1, 8))
def test_failed_model_gets_one_call_at_a_time_after_its_avoidance(strategy, faults):
    over = known(0.2, faults=faults, fault_s=avoidance_s(faults) + 0.1, seen_s=avoidance_s(faults) + 0.1)
    taken = waiting_for(strategy, snapshot_of([over, known(0.2), known(0.3)]), 12)
    assert taken.count("m0") == 1
    assert taken[0] == "m0"


# -- exploration -------------------------------------------------------------------------------------------


@BOTH
@given(fleet=FLEETS, capacity=st.integers(1, 100))
def test_unseen_model_gets_one_call_at_a_time(strategy, fleet, capacity):
    unseen = ModelLoad(capacity=capacity)
    taken = waiting_for(strategy, snapshot_of([unseen, *fleet]), 15)
    assert taken.count("m0") == 1
    assert taken[0] == "m0"


@given(fleet=FLEETS)
def test_model_that_was_slow_long_ago_is_explored_with_one_call(fleet):
    stale = known(5.0, seen_s=1e6)
    assert waiting_for(least_latency, snapshot_of([stale, known(0.05), *fleet]), 10).count("m0") == 1


@given(fleet=FLEETS)
def test_model_that_was_slow_a_moment_ago_is_avoided(fleet):
    slow = known(500.0, seen_s=1.0)
    assert "m0" not in waiting_for(least_latency, snapshot_of([slow, known(0.05), *fleet]), 5)


@given(ratio=st.floats(1.0, 1e6), slower=st.floats(1.0, 1e3), between=st.floats(0.0, 100.0))
def test_exploration_interval_grows_with_slowness_and_bounds_its_share(ratio, slower, between):
    assert exploration_interval_s(ratio, between) <= exploration_interval_s(ratio * slower, between)
    assert exploration_interval_s(ratio, between) >= EXPLORE_ONE_IN * between


# -- Prequal -----------------------------------------------------------------------------------------------


def hot_cold(*models, **options):
    """Who is taken of models given as (latency, pending)."""
    snapshot = snapshot_of([known(latency, pending) for latency, pending in models])
    return chosen(prequal, request(options=read_options("prequal", options)), snapshot)


def test_prequal_takes_the_quickest_cold_model_whatever_its_load():
    assert hot_cold((0.3, 0), (0.1, 1), (0.2, 1), (0.9, 9)) == "m1"


def test_hot_one_is_left_although_it_is_the_quickest():
    assert hot_cold((0.01, 9), (0.5, 1), (0.6, 1), (0.7, 2)) == "m1"


def test_prequal_takes_the_fewest_calls_where_all_are_hot():
    assert hot_cold((0.1, 30), (0.2, 25), (0.9, 21), (0.3, 28)) == "m2"


@given(fleet=FLEETS, turn=st.integers(0, 50))
def test_prequal_takes_no_model_that_is_hot_while_another_is_cold(fleet, turn):
    snapshot = snapshot_of(fleet, turn)
    taken = chosen(prequal, request(), snapshot)
    ranking = prequal(request(), tuple(snapshot.models), snapshot)
    hot = {preference.model for preference in ranking.preferences if preference.base > 1e5}
    assert taken not in hot or hot == set(snapshot.models)
    # What is hot has more in flight than whatever is cold.
    cold = [load.load for model, load in snapshot.models.items() if model not in hot]
    assert all(snapshot.models[model].load > max(cold, default=-1) for model in hot)


@given(fleet=FLEETS)
def test_prequal_takes_the_quickest_of_the_cold_models(fleet):
    snapshot = snapshot_of(fleet)
    taken = snapshot.models[chosen(prequal, request(), snapshot)]
    for load in fleet:
        assert not (load.load == taken.load and load.latency_s < taken.latency_s - 1e-6)


def test_prequal_prefers_only_the_probed_of_many_models():
    snapshot = snapshot_of([known(0.1)] * 10)
    ranking = prequal(request(7, options=read_options("prequal", {"probes": 3})), names(10), snapshot)
    assert sum(preference.base < 1 for preference in ranking.preferences) == 3
    assert len(ranking.preferences) == 10
