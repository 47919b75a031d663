"""What holds for every strategy, whatever the fleet is like and whatever is asked."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.routing.choose import pick_model
from tasks.routing.options import find_option_problems, is_sticky, read_options, strategy_named
from tasks.routing.snapshot import ModelLoad, Snapshot
from tests.snapshots import ALL, BOUND, CASES, idle, names, request

#: All strategies are asked in each example.
EACH = settings(max_examples=40, deadline=None)
#: Strategies that look at the load, and those in turn. The rest choose by name or by chance: an operator's zero pauses
#: such a model, and what was chosen by name waits for it.
BY_LOAD = ("round_robin", "weighted_round_robin", "least_connections", "power_of_two", "least_latency", "prequal")
STICKY = {"profile", "contextual", "cost_quality"}


@EACH
@given(case=CASES)
def test_ranking_has_each_candidate_once_with_finite_figures(case):
    asked, models, snapshot = case
    for name in ALL:
        ranking = strategy_named(name)(asked, models, snapshot)
        assert sorted(preference.model for preference in ranking.preferences) == sorted(models), name
        for preference in ranking.preferences:
            assert math.isfinite(preference.base), name
            assert math.isfinite(preference.slope), name
            # A model is never wanted more for having more to do.
            assert preference.slope >= 0, name
            assert not math.isnan(preference.score(snapshot.models[preference.model].load)), name


@EACH
@given(case=CASES)
def test_strategy_is_deterministic(case):
    for name in ALL:
        assert strategy_named(name)(*case) == strategy_named(name)(*case), name


@EACH
@given(case=CASES)
def test_choice_is_explained_without_the_key_that_it_was_made_by(case):
    asked, models, snapshot = case
    secret = "xyzzy-secret-key"
    for name in ALL:
        ranking = strategy_named(name)(replace(asked, key=secret, key_given=True), models, snapshot)
        assert 0 < len(ranking.reason) < 300, name
        assert secret not in ranking.reason, name


@EACH
@given(case=CASES)
def test_closed_model_gets_no_call_while_another_is_open(case):
    asked, models, snapshot = case
    assume(not all(load.closed for load in snapshot.models.values()))
    for name in ALL:
        taken = pick_model(strategy_named(name)(asked, models, snapshot), snapshot)
        assert not snapshot.models[taken].closed, name


@EACH
@given(case=CASES)
def test_load_strategy_sends_nothing_to_a_model_without_capacity(case):
    asked, models, snapshot = case
    assume(any(load.capacity and not load.closed for load in snapshot.models.values()))
    for name in BY_LOAD:
        taken = pick_model(strategy_named(name)(asked, models, snapshot), snapshot)
        assert snapshot.models[taken].capacity, name


@pytest.mark.parametrize("name", ALL)
def test_single_candidate_is_taken_by_each_strategy(name):
    snapshot = Snapshot(7, idle(1))
    assert pick_model(strategy_named(name)(request(3), names(1), snapshot), snapshot) == "m0"


@pytest.mark.parametrize("name", ALL)
def test_strategies_bind_early_or_not_as_they_say(name):
    snapshot = Snapshot(1, idle(3))
    assert strategy_named(name)(request(1), names(3), snapshot).bound == (name in BOUND)


@pytest.mark.parametrize("name", ALL)
def test_strategies_that_choose_a_model_for_what_it_is_are_sticky(name):
    assert is_sticky(name) == (name in STICKY)


@pytest.mark.parametrize("name", ALL)
def test_option_that_a_strategy_lacks_is_refused_with_those_it_has(name):
    ((loc, message),) = find_option_problems(name, {"no_such_option": 1}, ["a"])
    assert loc[0] == "options"
    assert "takes no options" in message or "allowed: " in message


@pytest.mark.parametrize("name", ALL)
def test_options_of_one_strategy_do_not_affect_another(name):
    other = read_options("prequal", {"probes": 2})
    snapshot = Snapshot(1, idle(3))
    mine, plain = (strategy_named(name)(request(5, options=options), names(3), snapshot) for options in (other, None))
    assert mine == plain or name == "prequal"


@pytest.mark.parametrize("name", sorted(set(ALL) - {"consistent_hash"}))
@given(count=st.integers(2, 8), start=st.integers(1, 10**6))
def test_fleet_of_equals_is_not_served_by_one_alone(name, count, start):
    """Without load, without history: no model stays unasked over many decisions of the same kind."""
    models, strategy = names(count), strategy_named(name)
    fleet = {model: ModelLoad(capacity=4) for model in models}
    calls = range(start, start + 40 * count)
    taken = {pick_model(strategy(request(turn * 0x9E3779B97F4A7C15 % 2**64), models, snap), snap)
             for turn in calls for snap in [Snapshot(turn, fleet)]}  # fmt: skip
    assert taken == set(models)
