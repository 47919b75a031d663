"""APGR, CPT and the oracle's gap, by hand and by their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.evaluate.cost_quality.curve import cost_curve, oracle_gap, share_curve

WEAK = np.array([1.0, 0.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 0.0])


def test_figures_of_four_texts_are_those_computed_by_hand():
    # Best order: the two that only the strong one knows, then where both do, then where only the weak one does.
    curve = share_curve(np.array([2.0, 4.0, 3.0, 1.0]), WEAK, STRONG)
    assert curve.spent.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.accuracy.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]
    assert curve.recovered is not None
    assert curve.recovered.tolist() == [0, 1, 2, 2, 1]
    assert curve.apgr == pytest.approx(0.125 + 0.375 + 0.5 + 0.375)
    assert curve.cpt(50) == pytest.approx(12.5)
    assert curve.cpt(80) == pytest.approx(20)
    assert curve.cpt(0) == 0
    assert curve.cpt(201) is None


def test_curve_of_a_router_without_knowledge_is_a_straight_line():
    curve = share_curve(np.zeros(4), WEAK, STRONG)
    assert curve.spent.tolist() == [0, 1]
    assert curve.apgr == pytest.approx(0.5)
    assert curve.cpt(50) == pytest.approx(50)


def test_curve_has_no_figures_where_the_strong_model_is_not_stronger():
    curve = share_curve(np.arange(4.0), STRONG, WEAK)
    assert (curve.recovered, curve.apgr, curve.cpt(50)) == (None, None, None)


GRADES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=1
)


@settings(deadline=None)
@given(GRADES)
def test_curve_goes_from_weak_to_strong_and_turns_with_its_ranking(rows):
    weak, strong, advantage = (np.array(column, float) for column in zip(*rows, strict=True))
    curve, other = share_curve(advantage, weak, strong), share_curve(-advantage, weak, strong)
    assert curve.accuracy[0] == pytest.approx(weak.mean())
    assert curve.accuracy[-1] == pytest.approx(strong.mean())
    assert (np.diff(curve.spent) > 0).all()
    if curve.apgr is not None:
        # The worst order is the best one backwards: what one gains the other loses.
        assert other.apgr is not None
        assert curve.apgr + other.apgr == pytest.approx(1)


@settings(deadline=None)
@given(GRADES, st.randoms(use_true_random=False))
def test_order_of_the_file_says_nothing(rows, chance):
    shuffled = list(rows)
    chance.shuffle(shuffled)
    curves = [
        share_curve(advantage, weak, strong)
        for weak, strong, advantage in (
            tuple(np.array(column, float) for column in zip(*some, strict=True)) for some in (rows, shuffled)
        )
    ]
    assert curves[0].accuracy == pytest.approx(curves[1].accuracy)


def test_cost_curve_goes_from_the_cheapest_to_the_price_of_the_best():
    correct = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    costs = np.broadcast_to([1.0, 2.0, 10.0], correct.shape)
    curve = cost_curve(correct, correct, costs, weak=0, strong=2)
    assert curve is not None
    assert (curve.spent[0], curve.spent[-1]) == (0.0, 1.0)
    assert (curve.weak, curve.strong) == (0.5, 0.75)
    # Who knows the answers pays the dear one once, for what only it can do: (1 + 2 + 10 + 1) / 4 of 1 to 10.
    assert curve.accuracy[-1] == 1.0
    assert curve.cpt(200) == pytest.approx(100 * ((14 / 4 - 1) / 9), abs=1)


def test_cost_curve_is_none_where_the_best_model_is_the_cheapest():
    correct = np.array([[1.0, 0.0]])
    assert cost_curve(correct, correct, np.array([[1.0, 2.0]]), weak=0, strong=0) is None


def test_gap_to_the_oracle_is_a_share_of_what_can_be_gained():
    correct = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert oracle_gap(np.array([1.0, 1.0, 1.0, 0.0]), correct) == 1
    assert oracle_gap(np.array([1.0, 1.0, 0.0, 0.0]), correct) == 0
    assert oracle_gap(np.array([1.0, 0.0, 0.0, 0.0]), correct) == -1
    assert oracle_gap(np.array([1.0]), np.array([[1.0, 0.0]])) is None
