"""What attempts tell of a model: a peak counts at once, a failure never flatters, length is taken out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.live import DECAY_S, PREFILL_TOKENS, Live, Told, observe

TOOK = st.floats(0.001, 1000.0)
TOKENS = st.none() | st.integers(1, 10_000)
OUTCOMES = st.sampled_from(["ok", "fault", "unusable", "throttled", "neutral", "cancelled", "unasked"])
ATTEMPTS = st.builds(
    Told, outcome=OUTCOMES, took_s=TOOK, waited_s=st.none() | st.floats(0.0, 100.0), output_tokens=TOKENS
)
#: Attempts, each with the seconds since the one before.
HISTORIES = st.lists(st.tuples(st.floats(0.0, 100.0), ATTEMPTS), max_size=30)


def after(history, live=None):
    live, now = live or Live(), 0.0
    for pause, told in history:
        now += pause
        live = observe(live, told, now)
    return live, now


@given(history=HISTORIES, told=ATTEMPTS, pause=st.floats(0.0, 100.0))
def test_nothing_but_an_answer_ever_lowers_the_latency(history, told, pause):
    before, now = after(history)
    known = observe(before, told, now + pause)
    if told.outcome != "ok" and before.latency_s is not None:
        assert known.latency_s >= before.latency_s
    if before.latency_s is None and told.outcome != "ok":
        # A model that has only failed has no latency: it is no fast one.
        assert known.latency_s is None


@given(history=HISTORIES, took=TOOK, pause=st.floats(0.0, 100.0))
def test_a_slower_answer_counts_at_once_and_whole(history, took, pause):
    before, now = after(history)
    known = observe(before, Told("ok", took), now + pause)
    assert known.latency_s >= took * (1 - 1e-9)


@given(first=TOOK, second=TOOK, pause=st.floats(0.0, 1000.0))
def test_a_faster_answer_counts_by_how_long_ago_the_peak_was(first, second, pause):
    second, first = sorted((first, second))
    known = observe(Live(latency_s=first, latency_at=0.0), Told("ok", second), pause)
    keep = math.exp(-pause / DECAY_S)
    assert known.latency_s == pytest.approx(first * keep + second * (1 - keep))


@given(history=st.lists(st.tuples(st.floats(0.0, 100.0), st.builds(Told, outcome=OUTCOMES, took_s=TOOK)), max_size=30))
def test_the_latency_lies_between_the_least_and_the_greatest_that_was_seen(history):
    live, _ = after(history)
    if live.latency_s is not None:
        answered = [told.took_s for _, told in history if told.outcome == "ok"]
        seen = [told.took_s for _, told in history if told.outcome != "unasked"]
        assert min(answered) * (1 - 1e-9) <= live.latency_s <= max(seen) * (1 + 1e-9)


@given(history=HISTORIES)
def test_shares_and_means_stay_in_their_bounds(history):
    live, _ = after(history)
    assert 0 <= live.errors <= 1
    assert live.faults >= 0
    assert (live.fault_at is None) == (live.faults == 0)
    waits = [told.waited_s for _, told in history if told.waited_s is not None and told.outcome != "unasked"]
    if waits:
        assert min(waits) * (1 - 1e-9) <= live.queue_wait_s <= max(waits) * (1 + 1e-9)
    else:
        assert live.queue_wait_s is None
    lengths = [told.output_tokens for _, told in history if told.outcome == "ok" and told.output_tokens]
    if lengths:
        assert min(lengths) * (1 - 1e-9) <= live.mean_output <= max(lengths) * (1 + 1e-9)


@given(tokens=st.lists(st.integers(1, 5000), min_size=2, max_size=20), per_token=st.floats(0.001, 0.1))
def test_a_model_whose_time_goes_with_its_tokens_is_as_quick_whatever_it_is_asked(tokens, per_token):
    """The seconds of each answer are those of its tokens and of its beginning: only the usual length counts."""
    live = Live()
    for now, count in enumerate(tokens):
        live = observe(live, Told("ok", per_token * (count + PREFILL_TOKENS), output_tokens=count), float(now))
    assert live.token_s == pytest.approx(per_token)
    longest = per_token * (max(tokens) + PREFILL_TOKENS)
    assert live.latency_s <= longest * (1 + 1e-9)


def test_a_long_answer_is_not_taken_for_a_slow_model():
    usual = Live(latency_s=1.0, latency_at=0.0, mean_output=100.0)
    long = observe(usual, Told("ok", 1.0 * (1950 + PREFILL_TOKENS) / (100 + PREFILL_TOKENS), output_tokens=1950), 0.0)
    slow = observe(usual, Told("ok", 13.0, output_tokens=100), 0.0)
    assert long.latency_s == pytest.approx(1.0)
    assert slow.latency_s == 13.0


@given(bad=st.integers(1, 40), took=TOOK)
def test_failures_in_a_row_are_counted_and_one_answer_ends_the_row(bad, took):
    live = Live(latency_s=1.0)
    for number in range(bad):
        live = observe(live, Told("fault", took), float(number))
        assert (live.faults, live.fault_at) == (number + 1, float(number))
    assert live.errors == pytest.approx(1 - 0.9**bad)
    well = observe(live, Told("ok", took), float(bad))
    assert (well.faults, well.fault_at) == (0, None)
    assert well.errors == pytest.approx(live.errors * 0.9)


@given(history=HISTORIES, told=ATTEMPTS)
def test_an_attempt_that_asked_nobody_tells_nothing(history, told):
    live, now = after(history)
    assert observe(live, Told("unasked", told.took_s, told.waited_s, told.output_tokens), now + 1) == live
