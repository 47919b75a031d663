"""What is expected of a queue, and whether a call can end there in time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.snapshot import ModelLoad, estimate_total_s, estimate_wait_s, is_too_late

loads = st.builds(
    ModelLoad,
    capacity=st.integers(1, 100),
    singles=st.integers(0, 500),
    parts=st.integers(0, 500),
    bound=st.integers(0, 500),
    latency_s=st.floats(0.001, 100),
)


def test_call_that_finds_a_free_slot_waits_for_nothing():
    assert estimate_wait_s(ModelLoad(4, singles=3, latency_s=2.0)) == 0


@pytest.mark.parametrize(
    ("load", "wait"),
    [
        # One of four slots is free after a fourth of a call.
        (ModelLoad(4, singles=4, latency_s=2.0), 0.5),
        (ModelLoad(4, singles=6, parts=1, latency_s=2.0), 2.0),
        # Those that wait for this model in the backlog come first, too.
        (ModelLoad(1, singles=2, bound=3, latency_s=1.0), 5.0),
    ],
)
def test_call_starts_when_all_before_it_have(load, wait):
    assert estimate_wait_s(load) == pytest.approx(wait)


def test_call_that_stands_in_front_does_not_wait_for_those_behind_it():
    load = ModelLoad(2, singles=10, latency_s=4.0)
    assert estimate_wait_s(load, before=1) == 0.0
    assert estimate_wait_s(load, before=2) == 2.0
    assert estimate_wait_s(load, before=9) < estimate_wait_s(load)


def test_model_without_capacity_never_starts_a_call():
    assert estimate_wait_s(ModelLoad(0, latency_s=1.0)) == math.inf
    assert is_too_late(ModelLoad(0, latency_s=1.0), 1e9)


def test_estimate_for_an_unseen_model_is_its_queue_wait():
    assert estimate_wait_s(ModelLoad(1, queue_wait_s=3.0)) == 0
    assert estimate_total_s(ModelLoad(1, singles=2, queue_wait_s=3.0)) == 3.0


def test_job_without_a_deadline_is_never_too_late():
    assert not is_too_late(ModelLoad(0), None)
    assert is_too_late(ModelLoad(1, latency_s=5.0), 4.9)
    assert not is_too_late(ModelLoad(1, latency_s=5.0), 5.1)


@given(load=loads, before=st.integers(0, 2000), more=st.integers(0, 100))
def test_wait_grows_with_the_calls_in_front(load, before, more):
    assert estimate_wait_s(load, before=before) <= estimate_wait_s(load, before=before + more)
    assert estimate_wait_s(load, before=load.pending + load.bound) == estimate_wait_s(load)
