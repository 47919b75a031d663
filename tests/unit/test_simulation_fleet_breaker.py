"""The breaker of the simulation follows the rule of `limiter.lua`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.evaluate.simulation.simulated_model import LONGEST_S, SimulatedBreaker
from tasks.config.models import Breaker as Settings


def failed(breaker, times, now=0.0):
    return [breaker.end(now, good=False, probe=False) for _ in range(times)]


def test_breaker_opens_at_the_tenth_attempt_if_half_failed():
    breaker = SimulatedBreaker()
    for _ in range(5):
        breaker.end(1.0, good=True, probe=False)
    assert failed(breaker, 4, 1.0) == [None] * 4
    assert breaker.end(1.0, good=False, probe=False) == 6.0
    assert breaker.closed_to_calls(5.9)
    assert not breaker.closed_to_calls(6.0)


def test_attempts_older_than_the_window_do_not_count():
    breaker = SimulatedBreaker()
    failed(breaker, 9)
    assert failed(breaker, 1, 31.0) == [None]


def test_half_open_it_lets_one_probe_through_whose_answer_closes_it():
    breaker = SimulatedBreaker()
    failed(breaker, 10)
    assert not breaker.lets_through(4.9)
    assert breaker.lets_through(5.0)
    assert breaker.start()
    assert not breaker.lets_through(5.0)
    breaker.end(5.2, good=True, probe=True)
    assert breaker.lets_through(5.2)
    assert not breaker.start()
    # It knows nothing of the failures before.
    assert failed(breaker, 9, 5.3) == [None] * 9


@given(probes=st.integers(1, 12))
def test_failed_probe_doubles_the_open_time_up_to_15_minutes(probes):
    breaker, now = SimulatedBreaker(Settings(open=5)), 0.0
    failed(breaker, 10)
    for number in range(1, probes + 1):
        now = breaker.open_until
        breaker.start()
        breaker.end(now, good=False, probe=True)
        assert breaker.open_until - now == pytest.approx(min(LONGEST_S, 5 * 2**number))


def test_calls_that_were_under_way_when_it_opened_change_nothing():
    breaker = SimulatedBreaker()
    failed(breaker, 10)
    assert breaker.end(1.0, good=True, probe=False) is None
    assert breaker.end(1.0, good=False, probe=False) is None
    assert breaker.open_until == 5.0
