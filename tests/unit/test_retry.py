import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import BadRequest, ConnectionFailed, ModelNotFound, RateLimited, TimedOut, Unauthorized
from tasks.retry import Fail, Retry, decide


class Highest(random.Random):
    """A die that always shows its highest number."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@pytest.mark.parametrize("error_type", [BadRequest, Unauthorized, ModelNotFound])
def test_a_permanent_error_is_never_tried_again(error_type):
    decision = decide(error_type("fast", "no"), 1, limit=5, rng=random.Random(0))

    assert isinstance(decision, Fail)
    assert "fast" in decision.reason


def test_the_last_allowed_attempt_is_not_followed_by_another():
    error = TimedOut("fast", "no answer in 60 s")

    assert isinstance(decide(error, 2, limit=3, rng=random.Random(0)), Retry)
    last = decide(error, 3, limit=3, rng=random.Random(0))
    assert isinstance(last, Fail)
    assert "3 of 3 attempts" in last.reason


def test_the_ceiling_doubles_from_half_a_second_to_thirty():
    error = ConnectionFailed("fast", "refused")

    delays = [decide(error, attempt, limit=99, rng=Highest()) for attempt in range(1, 10)]

    assert delays == [Retry(s) for s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0)]


def test_one_seed_gives_one_delay():
    error = TimedOut("fast", "slow")

    first, second = (decide(error, 3, limit=9, rng=random.Random(7)) for _ in range(2))

    assert first == second


def test_calls_held_back_together_return_apart():
    error = RateLimited("fast", "429", status=429, retry_after=10)
    rng = random.Random(0)

    delays = {decide(error, 1, limit=3, rng=rng) for _ in range(20)}

    assert len(delays) == 20


@given(
    attempt=st.integers(1, 10**6),
    asked=st.none() | st.floats(allow_nan=True, allow_infinity=True),
    seed=st.integers(0, 99),
)
def test_the_delay_is_at_least_what_was_asked_for_and_always_bounded(attempt, asked, seed):
    error = RateLimited("fast", "429", status=429, retry_after=asked)

    decision = decide(error, attempt, limit=10**7, rng=random.Random(seed))

    assert isinstance(decision, Retry)
    assert 0 <= decision.delay_s <= 330
    if asked is not None and asked > 0:
        assert decision.delay_s >= min(asked, 300)
