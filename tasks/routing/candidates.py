"""The second decision of routing: which models may do a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.config.prompts import source_of
from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.result import Candidate
from tasks.contract.tokens import estimate, estimate_messages
from tasks.routing.deadline import estimate_total_s, is_too_late

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.models import Model
    from tasks.routing.snapshot import Snapshot

__all__ = ["select_able", "find_candidates", "exclude_late"]


def find_candidates(job: Job, route: str, config: Config, *, longest: int | None = None) -> tuple[Candidate, ...]:
    """The route's models and then its fallbacks, or the one the producer named; what can't do the job has a reason.

    `longest` are the tokens (`tasks.contract.tokens`) of the longest section, by default of the text or all messages.
    """
    named = (job.fixed_model,) if job.fixed_model else config.candidates(route)
    fallbacks = config.all_routes[route].fallbacks if route and not job.fixed_model else ()
    prompt = job.prompt if job.prompt is not None or not route else config.all_routes[route].prompt
    given = 0
    if job.budget_usd is not None or any(config.models[name].context_window for name in named):
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
    cost = given * model.price.input / 1e6
    if job.budget_usd is not None and cost > job.budget_usd:
        return f"would cost ${cost:.6f} for its input alone, budget_usd is ${job.budget_usd:.6f}"
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
