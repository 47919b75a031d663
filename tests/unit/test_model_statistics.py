"""Statistics of a model: a peak counts at once, a failure never lowers the latency, length is taken out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.model_statistics import DECAY_S, PREFILL_TOKENS, ModelStatistics, observe

TOOK = st.floats(0.001, 1000.0)
TOKENS = st.none() | st.integers(1, 10_000)
OUTCOMES = st.sampled_from(["ok", "fault", "unusable", "throttled", "neutral", "cancelled", "unasked"])
ATTEMPTS = st.fixed_dictionaries(
    {"outcome": OUTCOMES, "took_s": TOOK, "waited_s": st.none() | st.floats(0.0, 100.0), "output_tokens": TOKENS}
)
#: Attempts, each with the seconds since the one before.
HISTORIES = st.lists(st.tuples(st.floats(0.0, 100.0), ATTEMPTS), max_size=30)


def after(history, live=None):
    live, now = live or ModelStatistics(), 0.0
    for pause, sample in history:
        now += pause
        live = observe(live, now, **sample)
    return live, now


@given(history=HISTORIES, sample=ATTEMPTS, pause=st.floats(0.0, 100.0))
def test_observe_lowers_the_latency_only_by_an_answer(history, sample, pause):
    before, now = after(history)
    known = observe(before, now + pause, **sample)
    if sample["outcome"] != "ok" and before.latency_s is not None:
        assert known.latency_s >= before.latency_s
    if before.latency_s is None and sample["outcome"] != "ok":
        # A model that has only failed has no latency: it is no fast one.
        assert known.latency_s is None


@given(history=HISTORIES, took=TOOK, pause=st.floats(0.0, 100.0))
def test_observe_counts_a_slower_answer_at_once_and_whole(history, took, pause):
    before, now = after(history)
    known = observe(before, now + pause, "ok", took)
    assert known.latency_s >= took * (1 - 1e-9)


@given(first=TOOK, second=TOOK, pause=st.floats(0.0, 1000.0))
def test_observe_weighs_a_faster_answer_by_the_age_of_the_peak(first, second, pause):
    second, first = sorted((first, second))
    known = observe(ModelStatistics(latency_s=first, latency_at=0.0), pause, "ok", second)
    keep = math.exp(-pause / DECAY_S)
    assert known.latency_s == pytest.approx(first * keep + second * (1 - keep))


@given(
    history=st.lists(
        st.tuples(st.floats(0.0, 100.0), st.fixed_dictionaries({"outcome": OUTCOMES, "took_s": TOOK})), max_size=30
    )
)
def test_latency_lies_between_the_least_and_the_greatest_sample(history):
    live, _ = after(history)
    if live.latency_s is not None:
        answered = [sample["took_s"] for _, sample in history if sample["outcome"] == "ok"]
        seen = [sample["took_s"] for _, sample in history if sample["outcome"] != "unasked"]
        assert min(answered) * (1 - 1e-9) <= live.latency_s <= max(seen) * (1 + 1e-9)


@given(history=HISTORIES)
def test_shares_and_means_stay_in_their_bounds(history):
    live, _ = after(history)
    assert 0 <= live.errors <= 1
    assert live.faults >= 0
    assert (live.fault_at is None) == (live.faults == 0)
    waits = [
        sample["waited_s"] for _, sample in history if sample["waited_s"] is not None and sample["outcome"] != "unasked"
    ]
    if waits:
        assert min(waits) * (1 - 1e-9) <= live.queue_wait_s <= max(waits) * (1 + 1e-9)
    else:
        assert live.queue_wait_s is None
    lengths = [
        sample["output_tokens"] for _, sample in history if sample["outcome"] == "ok" and sample["output_tokens"]
    ]
    if lengths:
        assert min(lengths) * (1 - 1e-9) <= live.mean_output <= max(lengths) * (1 + 1e-9)


@given(tokens=st.lists(st.integers(1, 5000), min_size=2, max_size=20), per_token=st.floats(0.001, 0.1))
def test_token_time_does_not_depend_on_the_lengths_of_answers(tokens, per_token):
    """The seconds of each answer are those of its tokens and of the time before its first one."""
    live = ModelStatistics()
    for now, count in enumerate(tokens):
        live = observe(live, float(now), "ok", per_token * (count + PREFILL_TOKENS), output_tokens=count)
    assert live.token_s == pytest.approx(per_token)
    longest = per_token * (max(tokens) + PREFILL_TOKENS)
    assert live.latency_s <= longest * (1 + 1e-9)


def test_latency_of_a_long_answer_is_normalized_to_the_usual_length():
    usual = ModelStatistics(latency_s=1.0, latency_at=0.0, mean_output=100.0)
    long = observe(usual, 0.0, "ok", 1.0 * (1950 + PREFILL_TOKENS) / (100 + PREFILL_TOKENS), output_tokens=1950)
    slow = observe(usual, 0.0, "ok", 13.0, output_tokens=100)
    assert long.latency_s == pytest.approx(1.0)
    assert slow.latency_s == 13.0


@given(bad=st.integers(1, 40), took=TOOK)
def test_faults_count_in_a_row_until_one_answer(bad, took):
    live = ModelStatistics(latency_s=1.0)
    for number in range(bad):
        live = observe(live, float(number), "fault", took)
        assert (live.faults, live.fault_at) == (number + 1, float(number))
    assert live.errors == pytest.approx(1 - 0.9**bad)
    well = observe(live, float(bad), "ok", took)
    assert (well.faults, well.fault_at) == (0, None)
    assert well.errors == pytest.approx(live.errors * 0.9)


@given(history=HISTORIES, sample=ATTEMPTS)
def test_observe_ignores_an_attempt_that_was_not_sent(history, sample):
    live, now = after(history)
    assert observe(live, now + 1, **(sample | {"outcome": "unasked"})) == live
