"""What a claimed part asks of a model, how large that is about, and who else may be asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.calling.retry import Bounds
from tasks.calling.tokens import estimate_messages
from tasks.job import Message
from tasks.ledger.limits import Ask
from tasks.ports import ModelRequest

if TYPE_CHECKING:
    from tasks.config import Model
    from tasks.ledger import Claim

__all__ = ["ask_of", "bounds_of", "request_of"]


def request_of(claim: Claim, name: str, model: Model, route_prompt: str | None, index: int) -> ModelRequest:
    """What the model `name` is asked: the prompt as system message, then the section, the text or the messages."""
    job = claim.job
    prompt = job.prompt if job.prompt is not None else route_prompt
    system = (Message(role="system", content=prompt),) if prompt else ()
    if claim.section is not None:
        asked: tuple[Message, ...] = (Message(role="user", content=claim.section),)
    elif job.messages is not None:
        asked = job.messages
    else:
        asked = (Message(role="user", content=job.text or ""),)
    timeout = model.timeout if claim.time_left_s is None else min(model.timeout, claim.time_left_s)
    return ModelRequest(
        model=model.model or name,
        messages=system + asked,
        timeout=timeout,
        first_byte_timeout=model.first_byte_timeout,
        temperature=job.temperature,
        top_p=job.top_p,
        max_tokens=job.max_tokens or model.max_tokens,
        # Votes shall differ where the model allows it: each has a seed of its own.
        seed=(job.seed or 0) + index if job.kind == "vote" else job.seed,
        stop=job.stop,
        response_schema=job.response_schema,
    )


def ask_of(name: str, model: Model, request: ModelRequest, *, id_: str, payer: str = "") -> Ask:
    """What the call takes of the limits of `name`."""
    return Ask(
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
    if claim.model not in able and claim.model in models:
        able = (claim.model, *able)
    allowed = claim.job.retry_seconds
    return Bounds(
        attempts={name: models[name].attempts for name in able},
        windows={name: window for name in able if (window := models[name].context_window) is not None},
        most=claim.job.max_attempts,
        seconds=None if allowed is None else allowed - claim.trying_s,
    )
