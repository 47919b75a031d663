"""The second and the third decision of routing: which models may do a job, and which one now.

The first, the route, is made in `tasks.routing.classify`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

from celery.utils.log import get_task_logger

from tasks.config.config import Config
from tasks.config.models import Model
from tasks.config.prompts import source_of
from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.result import Candidate, Decision
from tasks.contract.tokens import estimate, estimate_messages
from tasks.routing.budget import estimate_call
from tasks.routing.classify.decision import Verdict
from tasks.routing.options import has_options, is_sticky, reads_traits, strategy_named
from tasks.routing.snapshot import ModelLoad, Preference, Ranking, Request, Snapshot, estimate_total_s, is_too_late
from tasks.routing.strategies.specialists import Contextual
from tasks.routing.traits import find_options, find_traits

log = get_task_logger(__name__)

#: Stands for the strategy where the producer named the model.
EXPLICIT = "explicit"

#: The strategy that replaces a failing one.
INSTEAD = "least_connections"

#: Source of the seeds of strategies: needs no secrecy, only that routers differ.
_CHANCE = Random()  # noqa: S311


def find_candidates(job: Job, route: str, config: Config, *, longest: int | None = None) -> tuple[Candidate, ...]:
    """The route's models and then its fallbacks, or the one the producer named; what can't do the job has a reason.

    `longest` are the tokens (`tasks.contract.tokens`) of the longest section, by default of the text or all messages.
    """
    named = (job.fixed_model,) if job.fixed_model else config.candidates(route)
    fallbacks = config.all_routes[route].fallbacks if route and not job.fixed_model else ()
    prompt = job.prompt if job.prompt is not None or not route else config.all_routes[route].prompt
    given = 0
    models = [config.models[name] for name in named]
    if job.budget_usd is not None or any(one.context_window or one.budget_usd_per_day for one in models):
        # Not always: a large text takes milliseconds to count.
        given = estimate(source_of(config, prompt or "")) + (_tokens(job) if longest is None else longest)
    return tuple(
        [
            Candidate(model=name, reason=_obstacle(job, config.models[name], given), fallback=name in fallbacks)
            for name in named
        ]
    )


def _obstacle(job: Job, model: Model, given: int) -> str:
    """Why a model can't do a job whose input has `given` tokens; "" if it can."""
    tokens = given + (job.max_tokens or 0)
    if model.context_window and tokens > model.context_window:
        return f"needs about {tokens} tokens, its window has {model.context_window}"
    region = job.metadata.get("region")
    if model.region is not None and region is not None and model.region != region:
        return f"is in region {model.region}, the job's metadata ask for {region}"
    needed = job.metadata.get("features")
    if model.features is not None and isinstance(needed, list):
        lacking = [str(feature) for feature in needed if feature not in model.features]
        if lacking:
            return f"lacks {', '.join(lacking)}"
    has_budget = job.budget_usd is not None or model.budget_usd_per_day is not None
    return _find_overrun(job, model, given) if has_budget else ""


def _find_overrun(job: Job, model: Model, given: int) -> str:
    """Why a call would cost more than a budget has; "" if none is too small."""
    cost = estimate_call(job, model, given)
    if job.budget_usd is not None and cost > job.budget_usd:
        whole = "with its longest answer" if job.max_tokens or model.max_tokens else "for its input alone"
        return f"would cost ${cost:.6f} {whole}, budget_usd is ${job.budget_usd:.6f}"
    if model.budget_usd_per_day is not None and cost > model.budget_usd_per_day:
        return f"would cost ${cost:.6f}, its budget_usd_per_day is ${model.budget_usd_per_day:.6f}"
    return ""


def _tokens(job: Job) -> int:
    return estimate_messages(message.content for message in job.messages) if job.messages else estimate(job.question)


def select_able(possible: Sequence[Candidate]) -> tuple[str, ...]:
    """The models that can do it.

    Raises:
        BadInput: if there is none, with the reason of each.
    """
    able = tuple(candidate.model for candidate in possible if not candidate.reason)
    if not able:
        why = "; ".join(f"{candidate.model} {candidate.reason}" for candidate in possible)
        raise BadInput("text", f"no model can take it: {why}", "cut it into sections, or name another model")
    return able


def exclude_late(job: Job, possible: Sequence[Candidate], snapshot: Snapshot) -> tuple[Candidate, ...]:
    """The same, without those that are expected to end after the job's deadline, unless all are."""
    late = {
        candidate.model: estimate_total_s(snapshot.models[candidate.model])
        for candidate in possible
        if not candidate.reason and is_too_late(snapshot.models[candidate.model], job.deadline)
    }
    if not late or len(late) == sum(not candidate.reason for candidate in possible):
        return tuple(possible)
    return tuple(
        candidate.model_copy(update={"reason": f"would take about {late[candidate.model]:.1f} s, past the deadline"})
        if candidate.model in late
        else candidate
        for candidate in possible
    )


def build_request(
    job: Job,
    route: str,
    *,
    config: Config | None = None,
    strategy: str = "",
    models: Sequence[str] = (),
    seed: int | None = None,
    quality: Mapping[str, float] | None = None,
    text: str | None = None,
) -> Request:
    """Build the request of a strategy from a job; `text` is the section of the call, by default the job's question."""
    asked = job.question if text is None else text
    key = job.key if job.key is not None else _hash(asked)
    options = find_options(config, route, strategy) if config is not None and has_options(strategy) else None
    length, at = None, None
    if config is not None and isinstance(options, Contextual):
        length = estimate(asked) if options.needs("length") else None
        at = datetime.now(ZoneInfo(config.classifier.timezone))
    return Request(
        route=route,
        key=key,
        key_given=job.key is not None,
        metadata=job.metadata,
        length=length,
        at=at,
        priority_metric=job.priority_metric,
        seed=_CHANCE.getrandbits(64) if seed is None else seed,
        options=options,
        traits=find_traits(config, route, models) if config is not None and models and reads_traits(strategy) else {},
        quality=quality or {},
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def choose(
    job: Job,
    verdict: Verdict,
    config: Config,
    snapshot: Snapshot,
    *,
    possible: Sequence[Candidate] | None = None,
    seed: int | None = None,
    quality: Mapping[str, float] | None = None,
) -> tuple[Decision, Ranking]:
    """The decision for one call, with its reasons; admission has the last word on the model.

    `possible` are the `candidates`, where they are known already; the snapshot must have those that are able. `seed` is
    the chance of strategies that need some, by default drawn anew; `quality` is what was predicted of the models.

    Raises:
        BadInput: if no candidate can do the job.
    """
    possible = possible if possible is not None else find_candidates(job, verdict.route, config)
    if job.deadline is not None:
        possible = exclude_late(job, possible, snapshot)
    able, fallbacks = _split(possible)
    name = _strategy(job, verdict.route, config)
    request = build_request(job, verdict.route, config=config, strategy=name, models=able, seed=seed, quality=quality)
    ranking = with_fallbacks(_rank(name, request, able, snapshot), fallbacks)
    return _decision(verdict, name, ranking, possible, snapshot), ranking


def rank_again(
    job: Job,
    decision: Decision,
    config: Config,
    snapshot: Snapshot,
    *,
    candidates: Sequence[str],
    fallbacks: Sequence[str],
    text: str | None,
) -> Ranking:
    """Rank `candidates` for a call that is tried again; `fallbacks` may take it while all candidates are closed.

    A strategy that is sticky is not asked again: its scores of the first time hold. Nor is one that is gone since.
    """
    of_route = {candidate.model for candidate in decision.candidates if candidate.fallback}
    first = tuple([model for model in candidates if model not in of_route]) or tuple(candidates)
    rest = [model for model in (*candidates, *fallbacks) if model not in first]
    if len(first) == 1:
        ranking = Ranking((Preference(first[0], 0.0),), bound=True, reason="")
    elif decision.strategy == EXPLICIT or is_sticky(decision.strategy) or not set(first) <= set(snapshot.models):
        known = {candidate.model: candidate.score for candidate in decision.candidates}
        scores = [known.get(model) for model in first]
        preferences = [
            Preference(model, 0.0 if score is None else score, 1e-6) for model, score in zip(first, scores, strict=True)
        ]
        ranking = Ranking(tuple(preferences), bound=False, reason="")
    else:
        request = build_request(job, decision.route, config=config, strategy=decision.strategy, models=first, text=text)
        ranking = _rank(decision.strategy, request, first, snapshot)
    return with_fallbacks(ranking, rest)


def with_fallbacks(ranking: Ranking, models: Sequence[str]) -> Ranking:
    """A ranking that falls back, in order, to `models` while all of its own are closed."""
    if not models:
        return ranking
    last = max([preference.base for preference in ranking.preferences])
    fallbacks = tuple([Preference(model, last + 1 + place) for place, model in enumerate(models)])
    return replace(ranking, preferences=ranking.preferences + fallbacks, fallbacks=len(fallbacks))


def spread_parts(
    job: Job,
    verdict: Verdict,
    config: Config,
    snapshot: Snapshot,
    *,
    parts: int,
    longest: int,
    texts: Sequence[str] | None = None,
    qualities: Sequence[Mapping[str, float]] = ({},),
) -> tuple[Decision, list[str]]:
    """Choose the model of each of `parts` calls, as if they were sent one after the other.

    `texts` are those of sections, which have a hash and a prediction each; votes share the job's.
    """
    possible = find_candidates(job, verdict.route, config, longest=longest)
    able, fallbacks = _split(possible)
    name = _strategy(job, verdict.route, config)
    first = texts[0] if texts else None
    request = build_request(
        job, verdict.route, config=config, strategy=name, models=able, quality=qualities[0], text=first
    )
    chosen: list[str] = []
    now = snapshot
    for index in range(parts):
        own = request
        if index:
            key = request.key if texts is None or job.key is not None else _hash(texts[index])
            own = replace(
                request,
                seed=_CHANCE.getrandbits(64),
                key=key,
                quality=qualities[index if len(qualities) > 1 else 0],
            )
        best = pick_model(with_fallbacks(_rank(name, own, able, now), fallbacks), now)
        chosen.append(best)
        now = now.after(best)
    return _decision(verdict, name, _rank(name, request, able, snapshot), possible, snapshot), chosen


def pick_model(ranking: Ranking, snapshot: Snapshot) -> str:
    """Pick the model of a call that does not wait for room: the rule of `admission.lua`, as a pure function."""
    models = snapshot.models
    own = ranking.preferences[: len(ranking.preferences) - ranking.fallbacks]
    open_ = (
        [preference for preference in own if not models[preference.model].closed]
        or [preference for preference in ranking.preferences if not models[preference.model].closed]
        or list(own)
    )
    if not ranking.bound:
        return min(open_, key=lambda preference: preference.score(models[preference.model].load)).model
    if ranking.balance is not None:
        taken = sum([models[preference.model].pending + models[preference.model].bound for preference in own]) + 1
        room = sum([models[preference.model].capacity for preference in open_])
        for preference in open_:
            load = models[preference.model]
            if room and load.pending + load.bound < math.ceil(ranking.balance * taken * load.capacity / room):
                return preference.model
    return open_[0].model


def _strategy(job: Job, route: str, config: Config) -> str:
    return EXPLICIT if job.fixed_model else job.strategy or config.all_routes[route].strategy


def _split(possible: Sequence[Candidate]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split into the able models and their fallbacks; the fallbacks are the candidates where no other model is able."""
    able = select_able(possible)
    fallbacks = {candidate.model for candidate in possible if candidate.fallback}
    first = tuple([model for model in able if model not in fallbacks])
    return (first, tuple([model for model in able if model in fallbacks])) if first else (able, ())


def _rank(name: str, request: Request, able: tuple[str, ...], snapshot: Snapshot) -> Ranking:
    if name == EXPLICIT:
        return Ranking((Preference(able[0], 0.0),), bound=True, reason="the producer named the model")
    try:
        ranking = strategy_named(name)(request, able, snapshot)
        _check(ranking, able)
    except Exception as error:
        # Strategies come from other distributions, too: a mistake of one must not cost a job.
        log.exception("strategy %s failed", name)
        ranking = strategy_named(INSTEAD)(request, able, snapshot)
        return replace(ranking, reason=f"strategy {name} failed ({type(error).__name__}): {INSTEAD} instead")
    return ranking


def _check(ranking: Ranking, able: Sequence[str]) -> None:
    named = [preference.model for preference in ranking.preferences]
    if not named or not set(named) <= set(able) or len(set(named)) < len(named):
        raise ValueError("a ranking must name candidates, each once, and at least one")
    if any(math.isnan(preference.base) or math.isnan(preference.slope) for preference in ranking.preferences):
        raise ValueError("a preference is not a number")


def _decision(
    verdict: Verdict, strategy: str, ranking: Ranking, possible: Sequence[Candidate], snapshot: Snapshot
) -> Decision:
    scores = {
        preference.model: preference.score(snapshot.models[preference.model].load) for preference in ranking.preferences
    }
    return Decision(
        route=verdict.route,
        classifier=verdict.classifier,
        confidence=verdict.confidence,
        strategy=strategy,
        reason="; ".join(dict.fromkeys(filter(None, (verdict.reason, ranking.reason)))),
        asked=verdict.asked,
        asked_usd=verdict.asked_usd,
        candidates=tuple(
            [
                candidate if candidate.reason else _seen(candidate, scores, snapshot.models[candidate.model])
                for candidate in possible
            ]
        ),
    )


def _seen(candidate: Candidate, scores: Mapping[str, float], load: ModelLoad) -> Candidate:
    """The candidate with its score and its live state at the moment of the decision."""
    return Candidate.model_construct(
        model=candidate.model,
        score=_finite(scores.get(candidate.model)),
        load=_finite(load.load),
        latency_s=None if load.latency_s is None else round(load.latency_s, 4),
        errors=round(load.errors, 3),
        closed=load.closed,
        fallback=candidate.fallback,
    )


def _finite(number: float | None) -> float | None:
    """None for infinity, which JSON lacks: the load of a model without capacity."""
    return None if number is None or math.isinf(number) else round(number, 9)
