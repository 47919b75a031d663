"""The second and third decision of routing: which models may do it, which one now. The first is `tasks.classify`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from tasks.calling.tokens import estimate, estimate_messages
from tasks.errors import BadInput
from tasks.job import Candidate, Decision, Job
from tasks.routing.snapshot import Preference, Ranking, Request, Snapshot, Strategy

if TYPE_CHECKING:
    from tasks.classify.decision import Verdict
    from tasks.config import Config

__all__ = ["candidates", "choose", "request_of", "spread", "strategy_named"]


@cache
def strategy_named(name: str) -> Strategy:
    """The strategy that is installed under this name.

    Raises:
        BadInput: if there is none.
    """
    points = entry_points(group="pointsman.strategies")
    if name not in points.names:
        raise BadInput("strategy", f"{name!r} is not a strategy", f"allowed: {', '.join(sorted(points.names))}")
    return cast(Strategy, points[name].load())


def candidates(job: Job, route: str, config: Config, *, longest: int | None = None) -> tuple[Candidate, ...]:
    """The route's models, or the one the producer named; what can't do the job has a reason, and is out.

    `longest` are the tokens (`tasks.calling.tokens`) of the longest section, by default of the text or all messages.
    """
    named = (job.fixed_model,) if job.fixed_model else config.routes[route].models
    prompt = job.prompt if job.prompt is not None or not route else config.routes[route].prompt
    windowed = any(config.models[name].context_window for name in named)
    given = 0
    if windowed:  # a large text takes milliseconds to count
        given = estimate(prompt or "") + (_tokens(job) if longest is None else longest)
    tokens = given + (job.max_tokens or 0)
    found: list[Candidate] = []
    for name in named:
        window = config.models[name].context_window
        reason = f"needs about {tokens} tokens, its window has {window}" if window and tokens > window else ""
        found.append(Candidate(model=name, reason=reason))
    return tuple(found)


def _tokens(job: Job) -> int:
    return estimate_messages(message.content for message in job.messages) if job.messages else estimate(job.question)


def request_of(job: Job, route: str) -> Request:
    """What strategies may know of a job."""
    key = job.key if job.key is not None else hashlib.sha256(job.question.encode()).hexdigest()
    return Request(route=route, key=key, metadata=job.metadata, priority_metric=job.priority_metric)


def choose(job: Job, verdict: Verdict, config: Config, snapshot: Snapshot) -> tuple[Decision, Ranking]:
    """The decision for one call, with its reasons; the feeder has the last word on the model.

    Raises:
        BadInput: if no candidate can do the job.
    """
    possible = candidates(job, verdict.route, config)
    able = _able(possible)
    name = "explicit" if job.fixed_model else job.strategy or config.routes[verdict.route].strategy
    ranking = _rank(name, request_of(job, verdict.route), able, snapshot)
    return _decision(verdict, name, ranking, possible, snapshot), ranking


def spread(
    job: Job, verdict: Verdict, config: Config, snapshot: Snapshot, *, parts: int, longest: int
) -> tuple[Decision, list[str]]:
    """The model of each of `parts` calls, as if they were sent one after the other."""
    possible = candidates(job, verdict.route, config, longest=longest)
    able = _able(possible)
    name = "explicit" if job.fixed_model else job.strategy or config.routes[verdict.route].strategy
    request = request_of(job, verdict.route)
    chosen: list[str] = []
    now = snapshot
    for _ in range(parts):
        ranking = _rank(name, request, able, now)
        best = min(ranking.preferences, key=lambda wish: wish.score(now.models[wish.model].load))
        chosen.append(best.model)
        now = now.after(best.model)
    return _decision(verdict, name, _rank(name, request, able, snapshot), possible, snapshot), chosen


def _able(possible: Sequence[Candidate]) -> tuple[str, ...]:
    able = tuple(candidate.model for candidate in possible if not candidate.reason)
    if not able:
        why = "; ".join(f"{candidate.model} {candidate.reason}" for candidate in possible)
        raise BadInput("text", f"no model can take it: {why}", "cut it into sections, or name another model")
    return able


def _rank(name: str, request: Request, able: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    if name == "explicit":
        return Ranking((Preference(able[0], 0.0),), bound=True, reason="the producer named the model")
    return strategy_named(name)(request, able, snapshot)


def _decision(
    verdict: Verdict, strategy: str, ranking: Ranking, possible: Sequence[Candidate], snapshot: Snapshot
) -> Decision:
    scores = {wish.model: wish.score(snapshot.models[wish.model].load) for wish in ranking.preferences}
    return Decision(
        route=verdict.route,
        classifier=verdict.classifier,
        confidence=verdict.confidence,
        strategy=strategy,
        reason="; ".join(dict.fromkeys(filter(None, (verdict.reason, ranking.reason)))),
        candidates=tuple(
            candidate
            if candidate.reason
            else candidate.model_copy(
                update={
                    "score": _finite(scores.get(candidate.model)),
                    "load": _finite(snapshot.models[candidate.model].load),
                }
            )
            for candidate in possible
        ),
    )


def _finite(number: float | None) -> float | None:
    """JSON has no infinity: a model without capacity has no load to tell."""
    return None if number is None or number == float("inf") else round(number, 9)
