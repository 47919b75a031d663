import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.calling.attempt import add_attempt, find_output_bound
from tasks.calling.retry import MOST_CONTINUED, MOST_THROTTLED, Retry, decide, may_continue, select_models, unspent
from tasks.config.models import Model
from tasks.contract.errors import (
    AnswerCut,
    BadRequest,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    ModelNotFound,
    ModelUnsuited,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TimedOut,
    Unauthorized,
)
from tasks.contract.job import Job
from tasks.contract.result import Candidate, Decision, Tried
from tasks.ledger import Claim, Kept
from tasks.parallel.part_spec import PartSpec


def models(attempts, windows=()):
    """The able models with the attempts that each has; `windows` are the context windows that are configured."""
    return {
        name: Model(provider="simulated", attempts=times, context_window=dict(windows).get(name))
        for name, times in attempts.items()
    }


ONE = models({"fast": 3})
TWO = models({"fast": 3, "slow": 3})


class Highest(random.Random):
    """A die that always shows its highest number."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def decided(error, times=1, *, able=ONE, tried=(), **more):
    """What follows when `error` has ended the last of so many attempts that all ended like this."""
    for _ in range(times):
        tried = add_attempt(tried, error.model, error)
    return decide(error, tried, able, **({"rng": random.Random(0)} | more))


@pytest.mark.parametrize("error_type", [BadRequest, ContentRefused])
def test_wrong_input_is_not_tried_again_not_even_elsewhere(error_type):
    decision = decided(error_type("fast", "no"), able=TWO)

    assert isinstance(decision, str)
    assert "fast" in decision


@pytest.mark.parametrize("error_type", [Unauthorized, ModelNotFound, QuotaExhausted])
def test_unusable_model_is_left_for_the_next_candidate_at_once(error_type):
    assert decided(error_type("fast", "no"), able=TWO) == Retry(0.0, ("slow",))


@pytest.mark.parametrize("error_type", [Unauthorized, ModelNotFound])
def test_wrong_key_or_name_fails_a_part_without_another_candidate(error_type):
    assert isinstance(decided(error_type("fast", "no")), str)


def test_spent_quota_makes_a_part_wait_without_another_candidate():
    decision = decided(QuotaExhausted("fast", "spent", retry_after=60))

    assert isinstance(decision, Retry)
    assert decision.candidates == ("fast",)
    assert decision.delay_s >= 60


def test_last_allowed_attempt_is_not_followed_by_another():
    error = TimedOut("fast", "no answer in 60 s")

    assert isinstance(decided(error, 2), Retry)
    last = decided(error, 3)
    assert isinstance(last, str)
    assert "3 of 3 attempts" in last


def test_used_up_model_is_followed_by_the_next_and_at_the_end_all_errors():
    again = decided(TimedOut("fast", "slow"), 2, able=TWO)
    # The other one takes it only if the first is closed by then.
    assert (again.candidates, again.fallbacks) == (("fast",), ("slow",))
    assert decided(TimedOut("fast", "slow"), 3, able=TWO) == Retry(0.0, ("slow",))

    tried = (Tried(model="fast", attempts=3, error="timed_out"),)
    last = decided(Overloaded("slow", "503"), 3, able=TWO, tried=tried)

    assert isinstance(last, str)
    assert "fast: timed_out after 3, slow: overloaded after 3" in last


def test_rate_limit_costs_no_attempt_and_asks_another_candidate_first():
    error = RateLimited("fast", "429", retry_after=9)

    assert decided(error, 5, able=TWO) == Retry(0.0, ("slow",))
    again = decided(error, 5)
    assert isinstance(again, Retry)
    assert again.delay_s >= 9
    assert isinstance(decided(error, MOST_THROTTLED), str)


def test_too_long_input_goes_to_a_larger_window_alone():
    able = models({"fast": 3, "slow": 3, "huge": 3}, {"fast": 100, "slow": 50, "huge": 1000})

    assert decided(ContextTooLong("fast", "no"), able=able) == Retry(0.0, ("huge",))
    assert isinstance(decided(ContextTooLong("huge", "no"), able=able), str)
    # Where a window is not known it may be large enough.
    assert decided(ContextTooLong("fast", "no"), able=TWO) == Retry(0.0, ("slow",))


def test_model_that_is_unsuited_gives_way_to_any_other():
    assert decided(ModelUnsuited("fast", "no"), able=TWO) == Retry(0.0, ("slow",))
    assert isinstance(decided(ModelUnsuited("fast", "no"), able=models({"fast": 3})), str)


def test_most_attempts_hold_for_all_models_together():
    error = Overloaded("fast", "503")

    assert isinstance(decided(error, 2, able=TWO, most=2), str)
    assert isinstance(decided(error, 1, able=TWO, most=2), Retry)


def test_delay_ceiling_doubles_from_half_a_second_to_thirty():
    error = ConnectionFailed("fast", "refused")

    delays = [decided(error, times, able=models({"fast": 20}), rng=Highest()) for times in range(1, 10)]

    assert delays == [Retry(s, ("fast",)) for s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0)]


def test_delay_is_reproducible_from_its_seed():
    error = TimedOut("fast", "slow")

    first, second = (decided(error, 2, rng=random.Random(7)) for _ in range(2))

    assert first == second


def test_delays_spread_calls_that_failed_together():
    error = RateLimited("fast", "429", status=429, retry_after=10)
    rng = random.Random(0)

    assert len({decided(error, rng=rng).delay_s for _ in range(20)}) == 20


@given(asked=st.none() | st.floats(allow_nan=True, allow_infinity=True), times=st.integers(1, 49), seed=st.integers(0))
def test_delay_is_at_least_retry_after_and_always_bounded(asked, times, seed):
    decision = decided(RateLimited("fast", "429", retry_after=asked), times, rng=random.Random(seed))

    assert isinstance(decision, Retry)
    assert 0 <= decision.delay_s <= 330
    if asked is not None and asked > 0:
        assert decision.delay_s >= min(asked, 300)


ERRORS = (TimedOut, Overloaded, RateLimited, Unauthorized, QuotaExhausted, ContextTooLong, ModelUnsuited, BadRequest)


@given(
    attempts=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 4), min_size=1),
    most=st.none() | st.integers(1, 9),
    errors=st.lists(st.sampled_from(ERRORS), min_size=1, max_size=400),
    seed=st.integers(0),
)
def test_retries_end_and_ask_no_model_too_often_whatever_fails(attempts, most, errors, seed):
    able, rng, tried = models(attempts), random.Random(seed), ()
    model = next(iter(attempts))
    for error_type in errors:
        assert model in unspent(tried, able)
        error = error_type(model, "no")
        tried = add_attempt(tried, model, error)
        decision = decide(error, tried, able, rng=rng, most=most)
        if isinstance(decision, str):
            break
        assert decision.candidates
        model = rng.choice(decision.candidates)
    else:
        # Only what costs time alone can go on for so long.
        assert sum(item.throttled for item in tried) > len(errors) - 17
    for item in tried:
        assert item.attempts <= attempts[item.model]
        assert item.throttled <= MOST_THROTTLED


def test_tried_models_are_kept_in_the_order_of_their_last_attempts():
    tried = add_attempt((), "a", TimedOut("a", "x"))
    tried = add_attempt(tried, "b", RateLimited("b", "x"))
    tried = add_attempt(tried, "a", None)

    assert tried == (
        Tried(model="b", throttled=1, error="rate_limited"),
        Tried(model="a", attempts=2, error=None),
    )


# -- calls whose candidates are as good as one another ---------------------------------------------

THREE = models({"a": 3, "b": 3, "c": 3})


def replicas(*tried, failed, error=Overloaded):
    """What follows a failure of `failed` where each model was asked as often as `tried` says."""
    known = tuple(Tried(model=model, attempts=times, error="overloaded") for model, times in tried)
    return decide(error(failed, "no"), known, THREE, rng=Highest(), sticky=False)


def test_failed_call_goes_at_once_to_replicas_that_were_not_asked():
    assert replicas(("a", 1), failed="a") == Retry(0.0, ("b", "c"))
    # Those that were asked come after it, for as long as it is closed.
    assert replicas(("a", 1), ("b", 1), failed="b") == Retry(0.0, ("c",), ("a",))


def test_call_waits_for_any_replica_once_all_were_asked_as_often():
    decision = replicas(("a", 1), ("b", 1), ("c", 1), failed="c")
    assert decision == Retry(0.5, ("a", "b", "c"))
    assert replicas(("a", 2), ("b", 2), ("c", 2), failed="c") == Retry(1.0, ("a", "b", "c"))


def test_unusable_replica_is_left_for_those_that_were_asked_least():
    assert replicas(("a", 1), ("b", 1), failed="b", error=Unauthorized) == Retry(0.0, ("c",), ("a",))


def test_failing_replicas_are_each_asked_as_often_as_they_may_be():
    tried, asked, failed = (), [], "a"
    while True:
        error = Overloaded(failed, "no")
        asked.append(failed)
        tried = add_attempt(tried, failed, error)
        decision = decide(error, tried, THREE, rng=Highest(), sticky=False)
        if isinstance(decision, str):
            break
        failed = decision.candidates[0]
    assert {model: asked.count(model) for model in THREE} == {"a": 3, "b": 3, "c": 3}
    assert [asked[place : place + 3].count("a") for place in (0, 3, 6)] == [1, 1, 1]


def test_rate_limit_sends_a_call_to_another_replica_whatever_was_asked():
    error = RateLimited("a", "slow down", retry_after=60)
    tried = (Tried(model="b", attempts=1, error="overloaded"), Tried(model="a", throttled=1, error="rate_limited"))
    assert decide(error, tried, models({"a": 3, "b": 3}), rng=Highest(), sticky=False) == Retry(0.0, ("b",))


# -- answers that were cut ---------------------------------------------------------------------------


def claim(*, schema=None, max_tokens=None, candidates=("fast", "slow", "vast"), kept=None, **fields):
    job = Job(text="x", max_tokens=max_tokens, response_schema=schema, **fields)
    decision = Decision(
        route="r", classifier="c", confidence=1, strategy="s", candidates=[Candidate(model=one) for one in candidates]
    )
    return Claim(1, PartSpec(candidates[0]), job, decision, 0.0, None, kept=kept or Kept())


ROOMS = {"fast": 100, "slow": 50, "vast": 1000}
CUT = {name: Model(provider="simulated", max_tokens=room, attempts=9) for name, room in {**ROOMS, "open": None}.items()}


def able(cut_at, *, candidates=("fast", "slow", "vast"), **fields):
    return list(select_models(claim(candidates=candidates, **fields), CUT, cut_at))


@pytest.mark.parametrize(
    ("max_tokens", "cut_at", "left"),
    [
        (None, {"fast": 100}, ["vast"]),
        # The job's own bound cut it: each model has as much room as it is configured with.
        (40, {"fast": 40}, ["fast", "slow", "vast"]),
        (40, {"fast": 100}, ["vast"]),
        (2000, {"fast": 2000}, []),
        (None, {"vast": 1000}, []),
    ],
)
def test_cut_json_is_asked_again_only_with_more_room(max_tokens, cut_at, left):
    assert able(cut_at, max_tokens=max_tokens, schema={"type": "object"}) == left


def test_bound_that_only_the_provider_knows_may_be_higher_than_any():
    among = {"candidates": ("open", "fast"), "schema": {"type": "object"}}
    assert able({"open": 0}, **among) == ["fast"]
    assert able({"fast": 100}, **among) == ["open"]
    # The job's bound is left out then, unless this was cut, too.
    assert able({"open": 40}, max_tokens=40, **among) == ["open", "fast"]
    assert find_output_bound(claim(max_tokens=40, **among), CUT["open"], was_cut=True) is None
    assert find_output_bound(claim(max_tokens=40, **among), CUT["fast"], was_cut=True) == 100
    anthropic = Model(provider="anthropic")
    assert find_output_bound(claim(max_tokens=40, **among), anthropic, was_cut=True) == 4096


def test_cut_text_that_fails_goes_to_a_candidate_with_a_higher_bound():
    assert able({"fast": 100}, on_truncated="fail") == ["vast"]
    # The job's bound holds for all of them.
    assert able({"fast": 40}, max_tokens=40, on_truncated="fail") == []


def test_cut_answer_is_asked_again_at_once_or_fails_with_every_model_named():
    error = AnswerCut("fast", "was cut", bound=40)
    assert decided(error, able=TWO) == Retry(0.0, ("fast",), ("slow",))
    assert decided(error, able=models({"slow": 3})) == Retry(0.0, ("slow",))
    assert "fast: answer_cut after 1" in decided(error, able={})


def test_cut_answer_is_continued_within_its_bounds_alone():
    tried = (Tried(model="fast", attempts=2),)
    assert may_continue(claim(on_truncated="continue"), tried)
    assert not may_continue(claim(), tried)
    assert not may_continue(claim(on_truncated="keep"), tried)
    assert not may_continue(claim(on_truncated="continue", schema={"type": "object"}), tried)
    assert not may_continue(claim(on_truncated="continue", max_attempts=2), tried)
    assert may_continue(claim(on_truncated="continue", max_attempts=3), tried)
    assert not may_continue(claim(on_truncated="continue", retry_seconds=0), tried)
    assert not may_continue(claim(on_truncated="continue", kept=Kept("so far", continued=MOST_CONTINUED)), tried)
