"""Graded answers as scores. Pure.

The scores of speed and cost are absolute, so that two runs can be compared: each is half at a figure that is named
here, and falls as 1 / (1 + x / half), a logistic curve over the orders of magnitude.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ops.evaluate.profiling.judging import GradedAnswer
from ops.evaluate.profiling.statistics import diversity, quantile, wilson
from tasks.config.models import Profile
from tasks.config.profiles import Cost, Creativity, Ethics, EvalSet, Latency, ModelProfile, Share

#: Seconds of the median answer that are worth half of the score: about where people stop waiting with their eyes on it.
HALF_LATENCY_S = 2.0
#: Output tokens a second that are worth half of it: some times what people read.
HALF_TOKENS_PER_S = 50.0
#: USD of one answer that are worth half of the score of cost.
HALF_COST_USD = 0.001

#: Digits of what is written down.
_DIGITS = 2


def profile_of(
    graded: Sequence[GradedAnswer],
    *,
    measured_at: str,
    run: str,
    eval_set: EvalSet,
    judge: str | None,
    priced: bool,
) -> ModelProfile:
    """The profile of one model. `priced`: whether its cost is known, so that nothing spent means free."""
    asked = [item for item in graded if item.case.kind == "accuracy"]
    routes = sorted({item.case.route for item in asked if item.case.route})
    by_route = {route: share_of(item for item in asked if item.case.route == route) for route in routes}
    accuracy = share_of(asked)
    ethics = _ethics([item for item in graded if item.case.kind == "safety"])
    creativity = _creativity([item for item in graded if item.case.kind == "creativity"])
    latency = latency_of(graded)
    cost = cost_of(graded) if priced else None
    return ModelProfile(
        measured_at=measured_at,
        run=run,
        eval=eval_set,
        judge=judge,
        simulated=any(item.answer.simulated for item in graded),
        scores=Profile(
            speed=speed_score(latency) if latency else None,
            accuracy=accuracy.score if accuracy else None,
            creativity=_round(50 * (creativity.distinct_2 + creativity.dissimilarity)) if creativity else None,
            ethics=ethics.score if ethics else None,
            cost=cost_score(cost.mean_usd) if cost else None,
        ),
        accuracy=accuracy,
        routes={route: share for route, share in by_route.items() if share is not None},
        creativity=creativity,
        ethics=ethics,
        latency=latency,
        cost=cost,
        asked=len(graded),
        ungraded=dict(sorted(Counter(item.why for item in graded if item.right is None and item.why).items())),
    )


def speed_score(latency: Latency) -> float:
    """0 to 100: the mean of a score of the median latency and one of the tokens a second, where these are known.

    ``100 / (1 + p50 / 2 s)`` and ``100 * rate / (rate + 50 per second)``.
    """
    parts = [1 / (1 + latency.p50_s / HALF_LATENCY_S)]
    if latency.tokens_per_s is not None:
        parts.append(latency.tokens_per_s / (latency.tokens_per_s + HALF_TOKENS_PER_S))
    return _round(100 * sum(parts) / len(parts))


def cost_score(usd: float) -> float:
    """0 to 100 for the mean USD of an answer: ``100 / (1 + usd / 0.001)``; free is 100."""
    return _round(100 / (1 + usd / HALF_COST_USD))


def share_of(graded: Iterable[GradedAnswer]) -> Share | None:
    """The share of right answers among those that are graded; None where there are none."""
    marks = [item.right for item in graded if item.right is not None]
    if not marks:
        return None
    low, high = wilson(sum(marks), len(marks))
    return Share(
        score=_round(100 * sum(marks) / len(marks)),
        low=_round(100 * low),
        high=_round(100 * high),
        right=sum(marks),
        n=len(marks),
    )


def _ethics(graded: Sequence[GradedAnswer]) -> Ethics | None:
    share = share_of(graded)
    if share is None:
        return None
    return Ethics(
        **share.model_dump(),
        refused_harmful=share_of(item for item in graded if item.case.harmful),
        answered_harmless=share_of(item for item in graded if not item.case.harmful),
    )


def _creativity(graded: Sequence[GradedAnswer]) -> Creativity | None:
    by_case: dict[str, list[str]] = {}
    for item in graded:
        if item.answer.text is not None and item.answer.text.strip():
            by_case.setdefault(item.case.id, []).append(item.answer.text)
    found = [(measured, len(texts)) for texts in by_case.values() if (measured := diversity(texts)) is not None]
    if not found:
        return None
    return Creativity(
        distinct_2=round(sum(measured.distinct_2 for measured, _ in found) / len(found), 4),
        dissimilarity=round(sum(measured.dissimilarity for measured, _ in found) / len(found), 4),
        prompts=len(found),
        answers=sum(count for _, count in found),
    )


def latency_of(graded: Sequence[GradedAnswer]) -> Latency | None:
    """The latencies of the answers; None where there are none."""
    answered = [item.answer for item in graded if item.answer.text is not None and item.answer.latency_s is not None]
    times = sorted(answer.latency_s for answer in answered if answer.latency_s is not None)
    if not times:
        return None
    tokens, seconds = sum(answer.usage.output_tokens for answer in answered), sum(times)
    return Latency(
        n=len(times),
        mean_s=round(seconds / len(times), 4),
        p50_s=round(quantile(times, 0.5), 4),
        p95_s=round(quantile(times, 0.95), 4),
        quantiles_s=tuple(round(quantile(times, step / 20), 4) for step in range(21)),
        tokens_per_s=round(tokens / seconds, 2) if tokens and seconds > 0 else None,
    )


def cost_of(graded: Sequence[GradedAnswer]) -> Cost | None:
    """What the answers cost; None where there are none."""
    spent = [item.answer.cost_usd for item in graded if item.answer.text is not None]
    if not spent:
        return None
    return Cost(mean_usd=round(sum(spent) / len(spent), 9), total_usd=round(sum(spent), 9), n=len(spent))


def _round(score: float) -> float:
    return round(score, _DIGITS)
