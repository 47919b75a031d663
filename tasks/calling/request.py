"""What a claimed part asks of a model, and how large that is about. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.config.prompts import Prompt, render
from tasks.contract.job import Message
from tasks.contract.model_client import ModelRequest
from tasks.contract.tokens import estimate_messages
from tasks.ledger.limiter import Demand

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.models import Model
    from tasks.ledger import Claim

__all__ = ["build_request", "estimate_demand", "render_prompt"]


def render_prompt(claim: Claim, config: Config, index: int) -> Prompt | None:
    """The system prompt: the part's own, the job's, or the route's; None where there is none.

    Raises:
        PromptError: if the prompt can't be filled in.
        KeyError: if the configuration lacks the route.
    """
    part, job = claim.part, claim.job
    route = config.all_routes[claim.decision.route] if claim.decision.route else None
    source = part.prompt
    if source is None and not part.bare:
        source = job.prompt if job.prompt is not None else route.prompt if route is not None else None
    if not source:
        return None
    variables = {
        "metadata": job.metadata,
        "labels": job.labels,
        "title": part.title,
        "index": index - claim.first + 1,
        "total": claim.total,
        "kind": job.kind,
        "route": claim.decision.route,
    }
    return render(config, source, variables)


def build_request(claim: Claim, name: str, model: Model, prompt: str | None, index: int) -> ModelRequest:
    """The request to the model `name`: the prompt as system message, then the section, the text or the messages."""
    job, part = claim.job, claim.part
    system = (Message(role="system", content=prompt),) if prompt else ()
    if part.text is not None:
        messages: tuple[Message, ...] = (Message(role="user", content=part.text),)
    elif job.messages is not None:
        messages = job.messages
    else:
        messages = (Message(role="user", content=job.text or ""),)
    if part.task:
        messages = (*messages, Message(role="user", content=part.task))
    return ModelRequest(
        model=model.model or name,
        messages=system + messages,
        timeout=model.timeout if claim.time_left_s is None else min(model.timeout, claim.time_left_s),
        first_byte_timeout=model.first_byte_timeout,
        **_options(claim, model, index),
    )


def _options(claim: Claim, model: Model, index: int) -> dict[str, Any]:
    """The sampling parameters and the schema of the answer."""
    job, part = claim.job, claim.part
    if part.bare:
        # A question of a join or a plan: the options of the job's own parts are not for it.
        return {"max_tokens": model.max_tokens, "response_schema": part.schema}
    seed = job.seed
    if part.seed is not None:
        seed = part.seed
    elif job.kind == "vote":
        # Each vote has a seed of its own, so that votes differ where the model allows it.
        seed = (job.seed or 0) + index
    return {
        "temperature": job.temperature,
        "top_p": job.top_p,
        "max_tokens": job.max_tokens or model.max_tokens,
        "seed": seed,
        "stop": job.stop,
        "response_schema": job.response_schema if part.schema is None else part.schema,
    }


def estimate_demand(name: str, model: Model, request: ModelRequest, *, id_: str, payer: str = "") -> Demand:
    """What `request` has to acquire of the limiter of the model `name`. `payer`: whose hedge it is."""
    return Demand(
        id=id_,
        model=name,
        input_tokens=estimate_messages([message.content for message in request.messages]),
        output_tokens=request.max_tokens,
        price=model.price,
        payer=payer,
    )
