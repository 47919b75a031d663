"""The cheapest model that is good enough: what holds for any prediction and any cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract.errors import BadInput
from tasks.routing.quality.choice import calibrate, choose_all, choose_by_quality

# Steps of 0.01: predictions that differ in their last bit only say nothing about the rule.
PROBABILITY = st.integers(0, 100).map(lambda step: step / 100)
COST = st.integers(0, 50).map(lambda step: step / 1000)
MODELS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(PROBABILITY, COST), min_size=1)
TRADEOFF = st.floats(1e-4, 1e3)


def split(models):
    return {name: pair[0] for name, pair in models.items()}, {name: pair[1] for name, pair in models.items()}


@settings(deadline=None)
@given(MODELS, PROBABILITY)
def test_threshold_takes_the_cheapest_that_reaches_it_or_the_best(models, threshold):
    quality, costs = split(models)
    chosen = choose_by_quality(quality, costs, threshold=threshold)
    good = [name for name in quality if quality[name] >= threshold]
    if good:
        assert quality[chosen] >= threshold
        assert costs[chosen] == min(costs[name] for name in good)
    else:
        assert quality[chosen] == max(quality.values())


@settings(deadline=None)
@given(MODELS, TRADEOFF)
def test_tradeoff_takes_the_most_quality_for_the_cost(models, tradeoff):
    quality, costs = split(models)
    chosen = choose_by_quality(quality, costs, tradeoff=tradeoff)
    worth = {name: quality[name] - costs[name] / tradeoff for name in quality}
    assert worth[chosen] == pytest.approx(max(worth.values()), abs=1e-9)


@settings(deadline=None)
@given(MODELS, PROBABILITY, PROBABILITY)
def test_higher_threshold_is_never_worse_and_never_cheaper(models, one, other):
    quality, costs = split(models)
    low = choose_by_quality(quality, costs, threshold=min(one, other))
    high = choose_by_quality(quality, costs, threshold=max(one, other))
    assert quality[low] <= quality[high]
    assert costs[low] <= costs[high]


@settings(deadline=None)
@given(MODELS, TRADEOFF, TRADEOFF)
def test_higher_tradeoff_is_never_worse_and_never_cheaper(models, one, other):
    quality, costs = split(models)
    low = choose_by_quality(quality, costs, tradeoff=min(one, other))
    high = choose_by_quality(quality, costs, tradeoff=max(one, other))
    assert quality[low] <= quality[high] + 1e-9
    assert costs[low] <= costs[high] + 1e-9


@settings(deadline=None)
@given(MODELS, st.one_of(PROBABILITY.map(lambda t: {"threshold": t}), TRADEOFF.map(lambda t: {"tradeoff": t})))
def test_choice_takes_no_model_that_is_worse_and_dearer(models, rule):
    quality, costs = split(models)
    chosen = choose_by_quality(quality, costs, **rule)
    assert not any(quality[name] > quality[chosen] and costs[name] < costs[chosen] for name in quality)


def test_equals_go_to_the_cheaper_then_the_better_then_the_first():
    assert choose_by_quality({"a": 0.9, "b": 0.8}, {"a": 2, "b": 1}, threshold=0.5) == "b"
    assert choose_by_quality({"a": 0.8, "b": 0.9}, {"a": 1, "b": 1}, threshold=0.5) == "b"
    assert choose_by_quality({"a": 0.8, "b": 0.8}, {}, threshold=0.5) == "a"
    assert choose_by_quality({"a": 0.3, "b": 0.3}, {"a": 2, "b": 1}, threshold=0.5) == "b"


@pytest.mark.parametrize("rule", [{}, {"threshold": 0.5, "tradeoff": 1.0}, {"tradeoff": 0.0}])
def test_rule_that_is_none_or_two_is_refused(rule):
    with pytest.raises(BadInput):
        choose_by_quality({"a": 0.5}, {"a": 1.0}, **rule)
    with pytest.raises(BadInput, match="quality: has no model"):
        choose_by_quality({}, {}, threshold=0.5)


PREDICTED = st.lists(st.tuples(PROBABILITY, PROBABILITY, PROBABILITY), min_size=1, max_size=40).map(np.array)
#: The first and the last are the cheapest.
COSTS = np.array([0.001, 0.004, 0.001])


def dear_share(predicted, **rule):
    return (choose_all(predicted, COSTS, **rule) == 1).mean()


@settings(deadline=None)
@given(PREDICTED, st.floats(0, 1))
def test_calibrated_threshold_is_the_highest_within_the_share(predicted, share):
    value = calibrate(predicted, COSTS, rule="threshold", share=share)
    assert dear_share(predicted, threshold=value) <= share + 1e-9
    assert value == 1 or dear_share(predicted, threshold=value + 0.005) > share - 1e-9


@settings(deadline=None)
@given(PREDICTED, st.floats(0, 1))
def test_calibrated_tradeoff_is_the_highest_within_the_share(predicted, share):
    value = calibrate(predicted, COSTS, rule="tradeoff", share=share)
    kept = dear_share(predicted, tradeoff=value)
    assert kept <= share + 1e-9
    assert dear_share(predicted, tradeoff=value * 1.001) > share - 1e-9 or kept == dear_share(predicted, tradeoff=1e9)


@settings(deadline=None)
@given(PREDICTED, st.sampled_from(["threshold", "tradeoff"]), st.floats(0, 1))
def test_calibrated_setting_reaches_the_quality_or_says_that_none_does(predicted, rule, target):
    best = predicted.max(axis=1).mean()
    if target > best:
        with pytest.raises(BadInput, match="is not reached"):
            calibrate(predicted, COSTS, rule=rule, quality=target)
        return
    value = calibrate(predicted, COSTS, rule=rule, quality=target - 1e-9)
    chosen = choose_all(predicted, COSTS, **{rule: value})
    assert predicted[np.arange(len(predicted)), chosen].mean() >= target - 1e-9


@pytest.mark.parametrize(
    "target", [{}, {"share": 0.5, "quality": 0.5}, {"share": 1.5}, {"share": -0.1}, {"quality": 1.1}]
)
def test_target_that_is_none_is_refused(target):
    with pytest.raises(BadInput):
        calibrate(np.array([[0.5, 0.6]]), np.array([1.0, 2.0]), rule="threshold", **target)


def test_calibrate_refuses_a_tradeoff_between_models_of_one_cost():
    with pytest.raises(BadInput, match="cost the same"):
        calibrate(np.array([[0.5, 0.6]]), np.array([1.0, 1.0]), rule="tradeoff", share=0.5)
