"""What a claimed part asks of a model, how large that is about, and who else may be asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.calling.retry import Bounds
from tasks.config.prompts import Prompt, render
from tasks.contract.job import Message
from tasks.contract.model_client import ModelRequest
from tasks.contract.tokens import estimate_messages
from tasks.ledger.limiter import Demand

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.models import Model
    from tasks.ledger import Claim
    from tasks.parallel.part_spec import PartSpec

__all__ = ["demand_of", "bounds_of", "prompt_of", "request_of"]


def prompt_of(claim: Claim, config: Config, index: int) -> Prompt | None:
    """What the model is told: the part's own prompt, the job's, or the route's.

    Raises:
        PromptError: if it can't be filled in.
        KeyError: if the configuration lacks the route.
    """
    part, job = claim.part, claim.job
    route = config.all_routes[claim.decision.route] if claim.decision.route else None
    said = part.prompt
    if said is None and not part.bare:
        said = job.prompt if job.prompt is not None else route.prompt if route is not None else None
    if not said:
        return None
    variables = {
        "metadata": job.metadata,
        "labels": job.labels,
        "title": claim.part.title,
        "index": index - claim.first + 1,
        "total": claim.total,
        "kind": job.kind,
        "route": claim.decision.route,
    }
    return render(config, said, variables)


def request_of(claim: Claim, name: str, model: Model, prompt: str | None, index: int) -> ModelRequest:
    """What the model `name` is asked: the prompt as system message, then the section, the text or the messages."""
    job, part = claim.job, claim.part
    system = (Message(role="system", content=prompt),) if prompt else ()
    if part.text is not None:
        asked: tuple[Message, ...] = (Message(role="user", content=part.text),)
    elif job.messages is not None:
        asked = job.messages
    else:
        asked = (Message(role="user", content=job.text or ""),)
    if part.task:
        asked = (*asked, Message(role="user", content=part.task))
    timeout = model.timeout if claim.time_left_s is None else min(model.timeout, claim.time_left_s)
    return ModelRequest(
        model=model.model or name,
        messages=system + asked,
        timeout=timeout,
        first_byte_timeout=model.first_byte_timeout,
        **(_plain(part, model) if part.bare else _sampling(claim, model, index)),
    )


def _plain(part: PartSpec, model: Model) -> dict[str, Any]:
    """What a join or a plan asks is asked in the model's own way: how the job's parts shall answer is not for it."""
    return {"max_tokens": model.max_tokens, "response_schema": part.schema}


def _sampling(claim: Claim, model: Model, index: int) -> dict[str, Any]:
    job, part = claim.job, claim.part
    seed = job.seed
    if part.seed is not None:
        seed = part.seed
    elif job.kind == "vote":
        # Votes shall differ where the model allows it: each has a seed of its part.
        seed = (job.seed or 0) + index
    return {
        "temperature": job.temperature,
        "top_p": job.top_p,
        "max_tokens": job.max_tokens or model.max_tokens,
        "seed": seed,
        "stop": job.stop,
        "response_schema": job.response_schema if part.schema is None else part.schema,
    }


def demand_of(name: str, model: Model, request: ModelRequest, *, id_: str, payer: str = "") -> Demand:
    """What the call takes of the limits of `name`."""
    return Demand(
        id=id_,
        model=name,
        input_tokens=estimate_messages([message.content for message in request.messages]),
        output_tokens=request.max_tokens,
        price=model.price,
        payer=payer,
    )


def bounds_of(claim: Claim, models: Mapping[str, Model]) -> Bounds:
    """How long this part may try, and with which models: the candidates that can do it, in their order."""
    able: Sequence[str] = [item.model for item in claim.decision.candidates if not item.reason and item.model in models]
    if claim.part.candidates:
        able = [name for name in claim.part.candidates if name in models]
    if claim.model not in able and claim.model in models:
        able = (claim.model, *able)
    allowed = claim.job.retry_seconds
    return Bounds(
        attempts={name: models[name].attempts for name in able},
        windows={name: window for name in able if (window := models[name].context_window) is not None},
        most=claim.job.max_attempts,
        seconds=None if allowed is None else allowed - claim.trying_s,
    )
