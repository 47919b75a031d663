"""What a job costs at least, by the estimates that its calls are booked with. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.config.config import Config
from tasks.config.models import Model
from tasks.config.prompts import source_of
from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.job_fields import Item
from tasks.contract.tokens import estimate, estimate_messages

#: Tokens of an answer before the first is known; `limiter.lua` starts with the same.
FIRST_MEAN = 256.0


def needs_check(job: Job, config: Config) -> bool:
    """Whether a budget may be too small for a job."""
    if job.kind in config.flows or job.each is not None:
        return False  # its child jobs book for themselves
    models = [config.models[name] for name in possible_models(job, config)]
    return any(model.price.input or model.price.output for model in models) and (
        job.budget_usd is not None or any(model.budget_usd_per_day is not None for model in models)
    )


def possible_models(job: Job, config: Config) -> tuple[str, ...]:
    """Every model that the job may be sent to; those of all its routes where it is still to be classified."""
    if job.fixed_model is not None:
        return (job.fixed_model,)
    routes = (job.fixed_route,) if job.fixed_route is not None else job.routes or tuple(config.routes)
    return tuple(dict.fromkeys(name for route in routes for name in config.candidates(route)))


def check_budgets(job: Job, config: Config, means: Mapping[str, float]) -> None:
    """Refuse a job whose least estimate is above its own budget, or of which no model may do a call in a day.

    `means` are the mean tokens of an answer by model: they count for a call without max_tokens.

    Raises:
        BadInput: with the field, the least estimate and the budget.
    """
    call, given = _least_tokens(job, config)
    problems: list[tuple[float, str, str]] = []
    for name in possible_models(job, config):
        model = config.models[name]
        output = job.max_tokens or model.max_tokens or means.get(name, FIRST_MEAN)
        day = model.budget_usd_per_day
        if job.budget_usd is not None and (usd := _cost(model, given, output)) > job.budget_usd:
            problem = f"is ${job.budget_usd:.9g}, and the least estimate, with model {name!r}, is ${usd:.9f}"
            problems.append((usd, "budget_usd", problem))
        elif day is not None and (usd := _cost(model, call, output)) > day:
            problem = f"{name!r} has a budget_usd_per_day of ${day:.9g}, and one call is estimated at ${usd:.9f}"
            problems.append((usd, "model", problem))
        else:
            return
    _, field, problem = min(problems)
    limit = "a lower max_tokens" if job.max_tokens is not None else "a max_tokens (the mean of the answers counts now)"
    remedy = (
        f"give at least that, or {limit}" if field == "budget_usd" else f"send {limit}, less text, or another model"
    )
    raise BadInput(field, problem, remedy)


def estimate_call(job: Job, model: Model, given: int) -> float:
    """USD of a call with `given` tokens of input and, where it is bounded, the longest answer."""
    return _cost(model, given, job.max_tokens or model.max_tokens or 0)


def _cost(model: Model, given: int, output: float) -> float:
    return (given * model.price.input + output * model.price.output) / 1e6


def _least_tokens(job: Job, config: Config) -> tuple[int, int]:
    """Tokens of input of one call, and of the fewest calls with which the job can succeed; never more than it needs."""
    prompt = estimate(source_of(config, job.prompt)) if job.prompt else 0
    needs_all = job.policy == "fail"
    if job.items is not None:
        # An item with a route or a model of its own is a child job.
        texts = [item if isinstance(item, str) else item.text for item in job.items if not _is_child(item)]
        sizes = [estimate(text) + prompt for text in texts]
        return (max(sizes), sum(sizes)) if needs_all and sizes else (min(sizes, default=0), min(sizes, default=0))
    if job.kind == "sections":
        # Its sections hold the text once, in calls of unknown sizes.
        return prompt, prompt + (estimate(job.text or "") if needs_all else 0)
    if job.messages is not None:
        one = prompt + estimate_messages(message.content for message in job.messages)
    else:
        one = prompt + estimate(job.text or "")
    stops = job.early_stop == "exact" or job.confidence is not None or not needs_all
    return one, one * (job.n if job.n is not None and not stops else 1)


def _is_child(item: str | Item) -> bool:
    return not isinstance(item, str) and (item.route is not None or item.model is not None)
