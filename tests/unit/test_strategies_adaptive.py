"""Weights that follow latency, failures and queue wait."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.options import find_option_problems
from tasks.routing.snapshot import ModelLoad, Snapshot, Traits
from tasks.routing.strategies.adaptive import FLOOR, Adaptive, adapted
from tests.snapshots import LOADS, UNLIKELY, chi_square, idle, names, request, tally

FLEETS = st.lists(LOADS, min_size=1, max_size=6).map(lambda fleet: dict(zip(names(len(fleet)), fleet, strict=True)))
#: Models of which something is known, and nothing so bad that the floor hides a change.
SOUND = st.lists(
    st.builds(
        ModelLoad,
        capacity=st.integers(1, 20),
        latency_s=st.floats(0.05, 5.0),
        errors=st.floats(0.0, 0.5),
        queue_wait_s=st.floats(0.0, 5.0),
        faults=st.integers(0, 2),
    ),
    min_size=2,
    max_size=5,
).map(lambda fleet: dict(zip(names(len(fleet)), fleet, strict=True)))


def weights(fleet, **facts):
    return adapted(request(**facts), tuple(fleet), Snapshot(1, fleet))


@given(fleet=FLEETS)
def test_weights_sum_to_one_over_all_models(fleet):
    found = weights(fleet)
    assert set(found) == set(fleet)
    assert sum(found.values()) == pytest.approx(1)
    assert all(weight >= FLOOR - 1e-12 for weight in found.values())


@pytest.mark.parametrize(("worse", "by"), [("latency_s", 0.5), ("errors", 0.3), ("queue_wait_s", 2.0), ("faults", 1)])
@given(fleet=SOUND)
def test_adaptive_weight_falls_for_a_worse_model_and_rises_for_others(worse, by, fleet):
    changed = {**fleet, "m0": replace(fleet["m0"], **{worse: getattr(fleet["m0"], worse) + by})}
    before, after = weights(fleet), weights(changed)
    assert after["m0"] < before["m0"]
    assert all(after[model] >= before[model] for model in fleet if model != "m0")


@given(fleet=SOUND, times=st.floats(0.01, 100))
def test_how_fast_the_clock_of_all_models_runs_does_not_matter(fleet, times):
    scaled = {
        model: replace(load, latency_s=load.latency_s * times, queue_wait_s=load.queue_wait_s * times)
        for model, load in fleet.items()
    }
    assert weights(scaled) == pytest.approx(weights(fleet))


@pytest.mark.parametrize(("option", "figure"), [("latency", "latency_s"), ("errors", "errors"),
                                                ("queue_wait", "queue_wait_s")])  # fmt: skip
@given(fleet=SOUND)
def test_figure_that_counts_nothing_is_left_out(option, figure, fleet):
    options = Adaptive(**{option: 0})
    if option == "latency":
        options = Adaptive(latency=0, queue_wait=0)
    changed = {**fleet, "m0": replace(fleet["m0"], **{figure: getattr(fleet["m0"], figure) / 2})}
    assert weights(fleet, options=options) == pytest.approx(weights(changed, options=options))


@given(fleet=SOUND)
def test_adaptive_weight_does_not_jump_on_one_failure(fleet):
    """It halves a weight at most; the averages move it by less."""
    changed = {**fleet, "m0": replace(fleet["m0"], faults=fleet["m0"].faults + 1)}
    assert weights(changed)["m0"] >= weights(fleet)["m0"] / 2 - 1e-9


def test_unknown_model_counts_as_the_usual_one():
    known = ModelLoad(capacity=1, latency_s=0.5)
    fleet = {"m0": known, "m1": ModelLoad(capacity=1), "m2": known}
    assert weights(fleet) == pytest.approx(dict.fromkeys(fleet, 1 / 3))
    assert weights(idle(4)) == pytest.approx(dict.fromkeys(names(4), 0.25))


def test_weights_follow_what_was_configured_and_the_capacity():
    fleet = {"m0": ModelLoad(capacity=4, latency_s=1), "m1": ModelLoad(capacity=2, latency_s=1)}
    traits = {"m0": Traits(weight=1), "m1": Traits(weight=6)}
    found = weights(fleet, traits=traits)
    assert found["m0"] - FLOOR == pytest.approx((1 - 2 * FLOOR) * 4 / 16)


def test_adaptive_gives_equal_shares_where_all_fail():
    fleet = {model: ModelLoad(capacity=1, latency_s=1.0, errors=1.0) for model in names(3)}
    assert weights(fleet) == pytest.approx(dict.fromkeys(names(3), 1 / 3))


def test_calls_are_drawn_by_these_weights():
    fleet = {"m0": ModelLoad(capacity=1, latency_s=0.1), "m1": ModelLoad(capacity=1, latency_s=0.2),
             "m2": ModelLoad(capacity=1, latency_s=0.15, errors=0.2)}  # fmt: skip
    counts = tally("adaptive", fleet, 6000, seed=4)
    assert chi_square([counts[model] for model in fleet], list(weights(fleet).values())) < UNLIKELY[2]


@pytest.mark.parametrize(("option", "value"), [("latency", -1), ("errors", 101), ("queue_wait", math.nan)])
def test_exponent_out_of_bounds_is_refused(option, value):
    ((loc, _),) = find_option_problems("adaptive", {option: value}, ["a"])
    assert loc == ("options", option)
