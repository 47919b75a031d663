"""Step 4, once a part: claim it, ask the model, write the answer down.

Once a part's output is written its model is never asked again. A part's failure is a value: it is written like an
answer, and the job's policy decides what it means. Nothing here raises into the chord but `Ignore`, which says that
this message is not the one that counts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from celery import shared_task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger

from tasks import votes
from tasks.config import Model
from tasks.errors import ConfigError, ModelError, PermanentModelError, TimedOut, Unreachable
from tasks.job import Message, Usage
from tasks.ledger import Admitted, CallId, Claim, PartRecord, digest
from tasks.ports import ModelReply, ModelRequest, Ports, ports_of
from tasks.retry import Retry, decide

__all__ = ["call", "cost", "request_of"]

log = get_task_logger(__name__)

T = TypeVar("T")

#: Seconds for which an answer is held while Redis is away, and between two tries to write it.
SETTLE_PATIENCE = 120.0
SETTLE_PAUSE = 0.5

#: Jitter of retries: needs no secrecy, only that workers differ.
_JITTER = random.Random()  # noqa: S311


@dataclass(frozen=True, slots=True)
class Done:
    """How a call ended and what is to be published now. `state` is None where this message does not count."""

    state: str | None
    admitted: Sequence[Admitted] = ()
    join: bool = False


@shared_task(name="tasks.call", bind=True)
def call(self: Any, job_id: str, index: int, wave: int | None = None) -> dict[str, Any]:
    """Run one part. Returns a summary for the chord, never a text."""
    ports = ports_of(self.app)
    done = ports.run(run_call(ports, CallId(job_id, index, wave)))
    if done.admitted:
        ports.publisher.calls(done.admitted)
    if done.join:
        ports.publisher.join(job_id)
    if done.state is None:
        raise Ignore
    return {"index": index, "state": done.state}


async def run_call(ports: Ports, name: CallId) -> Done:
    jobs, fleet = ports.ledger.jobs, ports.ledger.fleet
    owner = ports.leases.new_owner()
    claim = await jobs.claim(name.job, name.index, owner)
    if not isinstance(claim, Claim) and claim.word == "busy":
        model = (await jobs.models(name.job, name.index, name.index + 1))[0]
        if await fleet.lease_left(name, model) > 0:
            # It runs elsewhere, or its worker died a moment ago: then the sweeper sends it again, past the lease.
            return Done(None)
        claim = await jobs.claim(name.job, name.index, owner, dead=claim.owner)
    if not isinstance(claim, Claim):
        if claim.word == "gone":
            log.warning("no such part: %s", name)
        admitted: Sequence[Admitted] = ()
        if claim.word == "done":
            # Nobody else may come to give back the place that this message stood for.
            # A job that was cancelled while it was admitted never learned its model: that place's lease lapses.
            places = [Admitted(name, model) for model in await jobs.models(name.job, name.index, name.index + 1)]
            admitted = await ports.ledger.free_all(places)
        return Done(None if claim.word == "busy" else claim.state or "gone", admitted)
    if claim.time_left_s is not None and claim.time_left_s <= 0:
        return await _expire(ports, name, claim.model, "the deadline passed before the call started")
    return await _ask(ports, name, owner, claim)


async def _ask(ports: Ports, name: CallId, owner: str, claim: Claim) -> Done:
    started = time.monotonic()
    record = PartRecord(queue_wait_s=round(claim.queue_wait_s, 4))
    try:
        model = ports.config.models[claim.model]
        route = ports.config.routes[claim.decision.route] if claim.decision.route else None
        client = ports.clients.of(claim.model)
    except (ConfigError, KeyError) as problem:
        # The configuration changed under the job, or this process lacks what it names: no attempt will mend that.
        error: ModelError = PermanentModelError(claim.model, f"can't be asked: {_configured(problem)}")
        return await _failed(ports, name, owner, claim, error, _with(record, started, error=str(error)))
    record = replace(record, simulated=model.provider == "simulated")
    request = request_of(claim, model, route.prompt if route is not None else None, name.index)
    asking = asyncio.ensure_future(client.complete(request))
    try:
        with ports.leases.holding(name, claim.model, asking) as held:
            reply = await asyncio.wait_for(asking, request.timeout)
    except asyncio.CancelledError:
        if not held.cancelled:
            raise  # this process ends; the part is run again elsewhere
        return await _settle(ports, name, owner, claim, None, _with(record, started, error="cancelled"))
    except TimeoutError:
        error = TimedOut(claim.model, f"did not answer within {request.timeout:g} s")
    except ModelError as failed:
        error = failed
    except Exception as failed:
        log.exception("call %s failed in our own code", name)
        error = ModelError(claim.model, f"the call failed in our own code: {type(failed).__name__}")
    else:
        record = _with(record, started, reply=reply, cost_usd=cost(model, reply.usage))
        return await _settle(ports, name, owner, claim, reply.text, record)
    return await _failed(ports, name, owner, claim, error, _with(record, started, error=str(error)))


async def _failed(ports: Ports, name: CallId, owner: str, claim: Claim, error: ModelError, record: PartRecord) -> Done:
    model = ports.config.models.get(claim.model)
    verdict = decide(error, claim.attempt, limit=model.attempts if model is not None else 1, rng=_JITTER)
    if not isinstance(verdict, Retry):
        return await _settle(ports, name, owner, claim, None, record)
    if claim.time_left_s is not None and verdict.delay_s >= claim.time_left_s:
        return await _expire(ports, name, claim.model, f"the deadline comes before the next attempt; {error}")
    if not await ports.ledger.jobs.retry(name.job, name.index, owner, str(error)):
        return Done(None, await ports.ledger.free(name, claim.model))
    able = [candidate.model for candidate in claim.decision.candidates if not candidate.reason]
    admitted = await ports.ledger.delay(
        name, claim.model, among=able or [claim.model], priority=claim.job.priority, seconds=verdict.delay_s
    )
    # The message that comes back is the one that counts.
    return Done(None, admitted)


async def _settle(ports: Ports, name: CallId, owner: str, claim: Claim, output: str | None, record: PartRecord) -> Done:
    # A blank answer abstains: it is no ballot.
    ballot = votes.normalize(output) if claim.job.kind == "vote" and output is not None else ""
    outcome, admitted = await _keep_trying(
        lambda: ports.ledger.settle(
            name, claim.model, owner, output=output, record=record, ballot=digest(ballot) if ballot else ""
        )
    )
    # The chord's callback joins when all parts are there; what is decided before that is joined at once.
    early = outcome.word == "complete" and outcome.detail != "all"
    if outcome.word == "over":
        state: str | None = "cancelled"
    elif outcome.word == "stale":
        state = None
    else:
        state = "failed" if output is None else "succeeded"
    return Done(state, admitted, join=early)


async def _expire(ports: Ports, name: CallId, model: str, why: str) -> Done:
    """End the whole job at its deadline: its other calls are dropped, too."""
    await ports.ledger.jobs.stop(name.job, "expired", why)
    await ports.ledger.fleet.cancel(name.job)
    return Done("cancelled", await ports.ledger.free(name, model))


def _configured(problem: ConfigError | KeyError) -> str:
    return str(problem) if isinstance(problem, ConfigError) else f"{problem} is no longer in the configuration"


async def _keep_trying(settle: Callable[[], Awaitable[T]]) -> T:
    """A model's answer is paid for: a ledger that is away for a moment must not lose it."""
    end = time.monotonic() + SETTLE_PATIENCE
    while True:
        try:
            return await settle()
        except Unreachable:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(SETTLE_PAUSE)


def request_of(claim: Claim, model: Model, route_prompt: str | None, index: int) -> ModelRequest:
    """What is asked: the prompt as system message, then the section, the text or the messages."""
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
        model=model.model or claim.model,
        messages=system + asked,
        timeout=timeout,
        temperature=job.temperature,
        top_p=job.top_p,
        max_tokens=job.max_tokens or model.max_tokens,
        # Votes shall differ where the model allows it: each has a seed of its own.
        seed=(job.seed or 0) + index if job.kind == "vote" else job.seed,
        stop=job.stop,
    )


def cost(model: Model, usage: Usage) -> float:
    """USD of one call: tokens times the price of a million, over a million."""
    return (usage.input_tokens * model.price.input + usage.output_tokens * model.price.output) / 1e6


def _with(
    record: PartRecord,
    started: float,
    *,
    reply: ModelReply | None = None,
    cost_usd: float = 0.0,
    error: str | None = None,
) -> PartRecord:
    return PartRecord(
        usage=reply.usage if reply else Usage(),
        cost_usd=cost_usd,
        latency_s=round(time.monotonic() - started, 4),
        queue_wait_s=record.queue_wait_s,
        simulated=record.simulated or (reply is not None and reply.simulated),
        error=error,
    )
