"""What follows a failed attempt: another one, with the same model or the next, or none. Pure decisions over values."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.calling.attempt import find_output_bound, find_schema
from tasks.config.models import Model
from tasks.contract.errors import (
    AnswerCut,
    ContextTooLong,
    ModelError,
    ModelUnsuited,
    QuotaExhausted,
    RateLimited,
    RetryableModelError,
    UnusableModelError,
)
from tasks.contract.result import Tried
from tasks.ledger import Claim

#: Seconds: the ceiling of the first delay, doubled each attempt; about one short model call.
BASE_S = 0.5
#: Seconds: the highest ceiling; past it a longer wait only delays finding out that the model is back.
CAP_S = 30.0
#: Seconds: the longest `retry_after` that is obeyed; providers send hours for a spent budget, which a breaker handles.
RETRY_AFTER_CAP_S = 300.0
#: Rate-limit answers of one model before a part gives it up. Usually the time for retries ends these waits first.
MOST_THROTTLED = 50
#: The error of a model that was not asked, as the call would cost more than the model may spend in a day.
OVER_BUDGET = "over_budget"
#: How often an answer that was cut is continued.
MOST_CONTINUED = 4


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again in `delay_s` seconds, with any of `candidates` that has room; `fallbacks` while these are closed."""

    delay_s: float
    candidates: tuple[str, ...]
    fallbacks: tuple[str, ...] = ()


def select_models(claim: Claim, models: Mapping[str, Model], cut_at: Mapping[str, int]) -> dict[str, Model]:
    """The models that a claimed part may ask, in order: its own, or the candidates that can do the job.

    Without those whose answer would be cut again: `cut_at` has the bounds at which answers were cut in vain.
    """
    named = claim.part.candidates or [item.model for item in claim.decision.candidates if not item.reason]
    if claim.part.model not in named:
        named = (claim.part.model, *named)
    return {name: models[name] for name in named if name in models and _has_room(claim, name, models[name], cut_at)}


def _has_room(claim: Claim, name: str, model: Model, cut_at: Mapping[str, int]) -> bool:
    if not cut_at:
        return True
    bound = find_output_bound(claim, model, was_cut=True)
    # A bound that only the provider knows may be higher, unless it was this one that cut an answer.
    return cut_at.get(name) != 0 if bound is None else bound > max(cut_at.values())


def may_continue(claim: Claim, tried: Sequence[Tried]) -> bool:
    """Whether an answer without a schema that was cut is continued: by the job, and by the bounds of its attempts."""
    job = claim.job
    return (
        job.on_truncated == "continue"
        and find_schema(claim) is None
        and claim.kept.continued < MOST_CONTINUED
        and (job.max_attempts is None or sum(item.attempts for item in tried) < job.max_attempts)
        and (claim.retry_left_s is None or claim.retry_left_s > 0)
    )


def unspent(tried: Sequence[Tried], able: Mapping[str, Model]) -> tuple[str, ...]:
    """The `able` models that a part may still ask: those that have attempts left and did not refuse to serve."""
    spent = {
        item.model
        for item in tried
        if (item.model in able and item.attempts >= able[item.model].attempts)
        or item.throttled >= MOST_THROTTLED
        or (item.error in _HOPELESS and item.attempts)
        or item.error == OVER_BUDGET
    }
    return tuple(model for model in able if model not in spent)


def decide(
    error: ModelError,
    tried: Sequence[Tried],
    able: Mapping[str, Model],
    *,
    rng: random.Random,
    sticky: bool = True,
    most: int | None = None,
) -> Retry | str:
    """Decide what follows `error`: a retry, or why the part fails. `tried` includes the attempt that ended with it.

    `able` are the candidates that can do the job, in order; `most` are the attempts that it has over all of them.

    A `RetryableModelError` is tried again with the same model, until its attempts are used up, then with the next. A
    call that is not `sticky` goes at once to those that were asked least often, and waits when all were asked as often
    as the one that failed. The delay is full jitter, uniform in [0, min(30, 0.5 · 2^(attempt-1))] seconds (Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): it spreads calls that failed together. When the
    provider asked for `retry_after`, the jitter comes on top of it, so it is a lower bound; at most 300 seconds of it
    are obeyed. The delay is for this model: another one is asked at once.

    After an `AnswerCut` the `able` are those with more room, and nothing has to be waited for.

    A 429 and a spent quota cost time, no attempt: other candidates are asked first, then the same model again. An
    `UnusableModelError`, a `ModelUnsuited` and a `ContextTooLong` lead to the next candidate (the last to one with a
    larger window); any other permanent error would come back everywhere.
    """
    if isinstance(error, UnusableModelError | ModelUnsuited | ContextTooLong):
        permanent = False
    else:
        permanent = not isinstance(error, RetryableModelError)
    if permanent:
        return f"{error}; it would fail the same way again"
    asked = sum(item.attempts for item in tried)
    if most is not None and asked >= most:
        return f"{error}; gave up after {asked} of {most} attempts"
    left = unspent(tried, able)
    others = tuple(model for model in left if model != error.model)
    if isinstance(error, ContextTooLong):
        others = tuple(model for model in others if _larger(able[model], able.get(error.model)))
        left = others
    same = error.model in left
    leaves = not same or isinstance(error, RateLimited | QuotaExhausted)
    if sticky:
        moves = others if leaves else ()
    else:
        least = least_asked(tried, others)
        leaves = leaves or any(_times(tried, model) < _times(tried, error.model) for model in least)
        moves = least if leaves else ()
    if not same and not moves:
        return f"{error}; {describe_attempts(tried, able)}"
    if moves:
        return Retry(0.0, moves, tuple(model for model in others if model not in moves))
    delay = _delay(error, tried, rng)
    return Retry(delay, (error.model,), others) if sticky else Retry(delay, left)


def least_asked(tried: Sequence[Tried], models: Sequence[str]) -> tuple[str, ...]:
    """Those of `models` that the part has asked least often."""
    least = min((_times(tried, model) for model in models), default=0)
    return tuple(model for model in models if _times(tried, model) == least)


def _times(tried: Sequence[Tried], model: str) -> int:
    return next((item.attempts + item.throttled for item in tried if item.model == model), 0)


#: A model that ended an attempt in one of these ways is not asked again for the same part.
_HOPELESS = frozenset({"unauthorized", "model_not_found", "model_unusable", "model_unsuited", "context_too_long"})


def _larger(model: Model, than: Model | None) -> bool:
    """Whether `model` has a larger window than `than`; an unknown window counts as larger."""
    if than is None or model.context_window is None or than.context_window is None:
        return True
    return model.context_window > than.context_window


def _delay(error: ModelError, tried: Sequence[Tried], rng: random.Random) -> float:
    if isinstance(error, AnswerCut):
        return 0.0
    times = _times(tried, error.model)
    # The exponent is bounded before the power: attempt 2,000 is a large number, not an overflow.
    ceiling = min(CAP_S, BASE_S * 2.0 ** min(max(times, 1) - 1, 16))
    asked = error.retry_after
    # `not > 0` also drops NaN, which would make every comparison with the delay false.
    floor = min(asked, RETRY_AFTER_CAP_S) if asked is not None and asked > 0 else 0.0
    return floor + rng.uniform(0.0, ceiling)


def describe_attempts(tried: Sequence[Tried], able: Mapping[str, Model]) -> str:
    """Every model that was asked, with its last error."""
    if len(tried) == 1 and list(able) == [tried[0].model]:
        (item,) = tried
        if item.error in _HOPELESS:
            return "no other model can take it"
        return f"gave up after {item.attempts} of {able[item.model].attempts} attempts"
    models = [f"{item.model}: {item.error or 'answered'} after {item.attempts + item.throttled}" for item in tried]
    return f"no model is left ({', '.join(models)})"
