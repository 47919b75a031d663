"""Strategies that choose a model for what it is good at: by profile, by context, by cost and quality.

They are sticky: a call that fails is tried with the same model again before another is asked. A specialist that is
failing, or slower than the route allows, is passed over until what is known of it is old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from pydantic import Field, PrivateAttr, field_validator, model_validator

from tasks.contract.validation import Value
from tasks.routing.classify.condition import Condition, read_fact
from tasks.routing.classify.context import read_rule
from tasks.routing.snapshot import ModelLoad, Preference, Ranking, Request, Snapshot
from tasks.routing.strategies.declare import strategy
from tasks.routing.strategies.load import rotation

Metric: TypeAlias = Literal["speed", "accuracy", "creativity", "ethics", "cost"]

#: Added to the score of a model that is no specialist here, and of one that is failing or slow.
OTHER, PASSED_OVER = 100.0, 1000.0
#: The score of a model that lacks a metric: after all that have it.
UNKNOWN = 1.01
#: Of equals the less loaded is taken; far below a point of any score.
BY_LOAD = 1e-6
#: Seconds for which what is known of a specialist is held against it.
HELD_AGAINST_S = 30.0


class Guard(Value):
    """Options that all of these take."""

    #: Pass a model over while this share of its latest attempts failed.
    failing: float = Field(default=0.5, gt=0, le=1)
    #: Pass a model over while it takes longer than this; null: however long it takes.
    slow_s: float | None = Field(default=None, gt=0, le=86_400)
    #: Whether another takes the call while the chosen one has no room; false: the call waits for it.
    overflow: bool = True

    def against(self, load: ModelLoad) -> str:
        """Why a model is passed over now; "" where it isn't."""
        if load.closed:
            return load.closed
        # One answer shows that it is well again: the share of failures alone would hold on to what was.
        if load.faults and load.errors >= self.failing and load.fault_s <= HELD_AGAINST_S:
            return "failing"
        slow = self.slow_s is not None and load.latency_s is not None and load.latency_s > self.slow_s
        return "slow" if slow and load.seen_s <= HELD_AGAINST_S else ""


class ProfileOptions(Guard):
    """Options of `profile`: one metric, or several with weights. A job's `priority_metric` comes before both."""

    priority: Metric | None = None
    weights: Mapping[Metric, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> ProfileOptions:
        if self.priority is not None and self.weights:
            raise ValueError("priority and weights exclude each other")
        if any(not 0 < weight < 1e6 for weight in self.weights.values()):
            raise ValueError("weights must be above 0")
        return self

    def metrics(self, priority: str | None) -> Mapping[str, float]:
        """What counts, and how much, for a job with this `priority_metric`."""
        if priority is not None:
            return {priority: 1.0}
        if self.priority is not None:
            return {self.priority: 1.0}
        return {str(metric): weight for metric, weight in self.weights.items()} or {"accuracy": 1.0}


@strategy(options=ProfileOptions, sticky=True)
def profile(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """The best by profile: the highest score of the metric that counts, or the highest weighted mean of several.

    Of equal scores the less loaded. Scores are measured (``pointsman profile``) or written in the configuration; a
    model that lacks a metric that counts comes last (configuration and submission are refused before that).
    """
    options = request.options_as(ProfileOptions)
    metrics = options.metrics(request.priority_metric)
    scores = {model: _score(request.traits_of(model).scores, metrics) for model in candidates}
    outcome = " and ".join(metrics) if len(metrics) < 3 else f"{len(metrics)} metrics"
    return _ranked(
        scores,
        options,
        snapshot,
        lambda best: f"the best in {outcome}: {best} with {100 - 100 * scores[best]:.0f} of 100",
    )


def _score(known: Mapping[str, float], metrics: Mapping[str, float]) -> float:
    """What the weighted mean of the metrics that count lacks to 100 points, as a share; more where one is not known."""
    if len(metrics) == 1:
        (metric,) = metrics
        return 1 - known[metric] / 100 if metric in known else UNKNOWN
    if not metrics.keys() <= known.keys():
        return UNKNOWN
    return 1 - sum([known[metric] * weight for metric, weight in metrics.items()]) / sum(metrics.values()) / 100


class Specialist(Value):
    """Models for jobs whose metadata meet these conditions."""

    #: As a route's ``when``.
    when: Mapping[str, Any]
    models: tuple[str, ...] = Field(min_length=1)
    _conditions: frozenset[Condition] = PrivateAttr(default=frozenset())

    @field_validator("when")
    @classmethod
    def _readable(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if not value:
            raise ValueError("has no condition, so it would always hold; the default is for what no specialist takes")
        read_rule("", value)
        return value

    def model_post_init(self, _: Any) -> None:
        self._conditions = read_rule("", self.when).conditions

    def takes(self, request: Request) -> bool:
        """Whether all conditions hold for a job."""
        read = partial(read_fact, metadata=request.metadata, length=request.length, now=request.at)
        return all(condition.holds(read(condition.name)) for condition in self._conditions)

    def needs(self, name: str) -> bool:
        """Whether a condition reads the fact of this name."""
        return any(condition.name == name for condition in self._conditions)


class Contextual(Guard):
    """Options of `contextual`: the first specialist whose conditions hold; without one the default, or all."""

    specialists: tuple[Specialist, ...] = ()
    default: tuple[str, ...] = ()

    def needs(self, name: str) -> bool:
        """Whether a condition reads the fact of this name: the text's length takes milliseconds to know."""
        return any(specialist.needs(name) for specialist in self.specialists)


@strategy(options=Contextual, sticky=True)
def contextual(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """The specialist for the job's context: language, topic, tenant, complexity, user tier, time and the like.

    Of several models of one specialist the less loaded; others while it is closed, failing or slow, or has no room.
    """
    options = request.options_as(Contextual)
    for place, specialist in enumerate(options.specialists):
        if specialist.takes(request):
            wanted, why = specialist.models, f"context {place + 1} ({', '.join(specialist.when)})"
            break
    else:
        wanted, why = options.default or candidates, "no context holds: the default"
    scores = {model: 0.0 if model in wanted else OTHER for model in candidates}
    return _ranked(scores, options, snapshot, lambda best: f"{why}: {best}")


class CostQuality(Guard):
    """Options of `cost_quality`: the least quality that is good enough, or what a point of quality may cost."""

    #: The cheapest model that answers well with this probability is taken; where none does, the best.
    threshold: float | None = Field(default=None, ge=0, le=1)
    #: USD that a call may cost more for 1.0 more probability: the highest quality − cost / tradeoff is taken.
    tradeoff: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_way(self) -> CostQuality:
        if self.threshold is not None and self.tradeoff is not None:
            raise ValueError("threshold and tradeoff exclude each other")
        return self


#: The threshold where the options name neither.
GOOD_ENOUGH = 0.7


@strategy(options=CostQuality, sticky=True, predicts=True)
def cost_quality(request: Request, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    """The cheapest model that is predicted good enough for this input.

    The prediction comes from outcomes that were measured (``outcomes``); without them a model's accuracy counts.
    """
    options = request.options_as(CostQuality)
    given = request.quality
    quality = {model: given[model] if model in given else _accuracy(request, model) for model in candidates}
    costs = {model: request.traits_of(model).cost_usd for model in candidates}
    if options.tradeoff is not None:
        worth = {model: quality[model] - costs[model] / options.tradeoff for model in candidates}
        scores = {model: 1 - value for model, value in worth.items()}
        return _ranked(scores, options, snapshot, lambda best: f"the most quality for its cost: {best}")
    enough = options.threshold if options.threshold is not None else GOOD_ENOUGH
    # The good ones by cost; then the rest by quality. Equals share a place.
    ranks = {
        model: (0.0, costs[model], -quality[model]) if quality[model] >= enough else (1.0, -quality[model], 0.0)
        for model in candidates
    }
    places = {rank: float(place) for place, rank in enumerate(sorted(set(ranks.values())))}
    good = sum([quality[model] >= enough for model in candidates])
    return _ranked(
        {model: places[rank] for model, rank in ranks.items()},
        options,
        snapshot,
        lambda best: (
            f"the cheapest of {good} that are good enough: {best}, {quality[best]:.0%} predicted"
            if quality[best] >= enough
            else f"none is good enough, the best is {best}: {quality[best]:.0%} predicted"
        ),
    )


def _accuracy(request: Request, model: str) -> float:
    return request.traits_of(model).scores.get("accuracy", 50.0) / 100


def _ranked(
    scores: Mapping[str, float],
    options: Guard,
    snapshot: Snapshot,
    reason: Callable[[str], str],
) -> Ranking:
    """The lowest score first; what is failing or slow comes after all that is not."""
    models, slow = snapshot.models, options.slow_s is not None
    against = {
        model: why
        for model in scores
        if (slow or (load := models[model]).closed or load.faults) and (why := options.against(models[model]))
    }
    turns = rotation(len(scores), snapshot.turn % len(scores))
    bases = [score + tie for score, tie in zip(scores.values(), turns, strict=True)]
    if against:
        bases = [base + PASSED_OVER * (model in against) for base, model in zip(bases, scores, strict=True)]
    preferences = sorted(map(Preference, scores, bases, repeat(BY_LOAD)), key=itemgetter(1))
    best, first = min(scores, key=scores.__getitem__), preferences[0].model
    outcome = reason(first)
    if best in against and first != best:
        outcome += f" ({best} is passed over: {against[best]})"
    return Ranking(tuple(preferences), bound=not options.overflow, reason=outcome)
