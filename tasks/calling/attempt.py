"""One attempt, an HTTP request to a model: build it, acquire what it needs of the fleet's limiter, send it, settle.

Every attempt that acquired something is settled, whether it was answered, failed, cancelled or never sent. Its
settlement travels with the next step of the ledger; where no step follows, the lease lapses by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from celery.utils.log import get_task_logger
from pydantic import JsonValue

from tasks.config.config import Config
from tasks.config.models import Model
from tasks.config.prompts import Prompt, render
from tasks.contract.errors import (
    AnswerCut,
    ConfigError,
    ConnectionFailed,
    ModelError,
    NoAnswer,
    PermanentModelError,
    PointsmanError,
    PromptError,
    QuotaExhausted,
    RateLimited,
    RetryableModelError,
    SchemaMismatch,
    TimedOut,
    UnusableModelError,
)
from tasks.contract.job import CallId
from tasks.contract.job_fields import Message
from tasks.contract.model_client import AttemptEvent, ModelClients, ModelReply, ModelRequest
from tasks.contract.result import RateLimits, Tried, Usage
from tasks.contract.tokens import estimate_messages
from tasks.ledger import Claim, Kept
from tasks.ledger.fleet import LEASE
from tasks.ledger.limiter import AttemptEnd, Demand, Denied, Grant, Limiter, estimate_cost, find_pause
from tasks.ledger.store import Command, Words
from tasks.queue.ports import Ports
from tasks.routing.budget import FIRST_MEAN
from tasks.routing.model_statistics import Outcome
from tasks.workflows.voting import find_answer_form

log = get_task_logger(__name__)

#: Seconds that a call waits in its slot for a place among the calls in flight, looking again after these pauses. Only
#: the slots that a pool has beyond its model's capacity can come to wait here.
SLOT_WAIT = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
#: Calls of one job that look in a second whether its budget has room, of all that wait for it.
CALLS_A_SECOND = 50.0
#: The request for the rest of an answer that was cut.
CONTINUE = (
    "Your answer was cut off because it reached the limit of its length. Continue it exactly where it ended, with the"
    " very next characters. Repeat nothing and add no remark: what you write now is appended to it as it is."
)
#: Seconds for a settlement that travels alone: a process that ends must not wait for a Redis that is away.
SETTLE_TIMEOUT = 1.0


#: Settlements on their way that no task waits for: the event loop itself keeps only weak references to its tasks.
_IN_BACKGROUND: set[asyncio.Task[Any]] = set()

#: What an error means for its model; the first that fits counts. An answer of the wrong form proves that the model
#: serves; an error in our own code proves nothing.
_OUTCOMES: tuple[tuple[type[ModelError], Outcome], ...] = (
    (RateLimited, "throttled"),
    (UnusableModelError, "unusable"),
    (SchemaMismatch, "neutral"),
    (NoAnswer, "neutral"),
    (AnswerCut, "neutral"),
    (RetryableModelError, "fault"),
    (PermanentModelError, "neutral"),
)


# -- building the request, pure ------------------------------------------------------------------


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


def describe_config_problem(model: str, problem: ConfigError | KeyError | PromptError) -> str:
    """Why no further attempt can help: this process's configuration lacks what the job names."""
    if isinstance(problem, PromptError):
        return str(problem)
    lacks = f"{problem} is no longer in the configuration" if isinstance(problem, KeyError) else str(problem)
    return str(PermanentModelError(model, f"can't be asked: {lacks}"))


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
    if claim.kept.text:
        so_far = Message(role="assistant", content=claim.kept.text)
        messages = (*messages, so_far, Message(role="user", content=CONTINUE))
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
    bound = find_output_bound(claim, model, was_cut=bool(claim.kept.cut_at))
    if part.bare:
        # A question of a join or a plan: the options of the job's own parts are not for it.
        return {"max_tokens": bound, "response_schema": part.schema}
    seed = job.seed
    if part.seed is not None:
        seed = part.seed
    elif job.kind == "vote":
        # Each vote has a seed of its own, so that votes differ where the model allows it.
        seed = (job.seed or 0) + index
    return {
        "temperature": job.temperature,
        "top_p": job.top_p,
        "max_tokens": bound,
        "seed": seed,
        "stop": job.stop,
        "response_schema": find_schema(claim),
        "answer_form": find_answer_form(claim.job, kept=claim.kept.text) if claim.job.kind == "vote" else None,
        "insists": job.insists if part.seed is None else job.insists | {"seed"},
    }


def find_output_bound(claim: Claim, model: Model, *, was_cut: bool) -> int | None:
    """Tokens that an answer may have at most; None for as many as the provider allows.

    A JSON answer `was_cut`: the next one gets all the room that the model has, whatever the job asked for.
    """
    named = None if claim.part.bare else claim.job.max_tokens
    if named is None or not was_cut or find_schema(claim) is None:
        return named or model.max_tokens
    return model.most_output and max(named, model.most_output)


def find_schema(claim: Claim) -> Mapping[str, JsonValue] | None:
    """The JSON Schema of a part's answer. Those of a join's or a plan's question are their own alone."""
    return claim.job.response_schema if claim.part.schema is None and not claim.part.bare else claim.part.schema


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


# -- the attempt itself ---------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Attempt:
    """One request to one model, granted by the limiter. It is sent once."""

    grant: Grant
    request: ModelRequest
    model: Model
    hedge: bool = False
    sent: bool = False
    reply: ModelReply | None = None
    error: ModelError | None = None
    latency_s: float = 0.0

    @property
    def cost_usd(self) -> float:
        """USD of all answers. A cancelled attempt may be billed, so it costs at least what was booked for it."""
        paid = self.model.price.cost(self.usage) if self.usage is not None else 0.0
        return max(paid, self.grant.cost_usd) if self.outcome == "cancelled" else paid

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer, or of answers that could not be used; None where there is no answer."""
        end = self.reply or self.error
        return None if end is None else end.usage

    @property
    def rate_limits(self) -> RateLimits | None:
        """The provider's rate limits, from the headers of its answer."""
        end = self.reply or self.error
        return None if end is None else end.rate_limits

    @property
    def finish_reason(self) -> str | None:
        if self.reply is not None:
            return self.reply.finish_reason
        return "length" if isinstance(self.error, AnswerCut) else None

    @property
    def outcome(self) -> Outcome:
        if self.reply is not None:
            return "ok"
        if self.error is None:
            return "cancelled" if self.sent else "unasked"
        if isinstance(self.error, TimedOut) and self.request.timeout < self.model.timeout:
            return "cancelled"  # the job's deadline cut the attempt short
        if isinstance(self.error, ConnectionFailed) and self.error.status is not None:
            return "unasked"  # a firewall answered in the model's place, perhaps for what stands in this prompt
        return next((word for kinds, word in _OUTCOMES if isinstance(self.error, kinds)), "cancelled")

    def refuse_cut(self) -> None:
        """Turn an answer that was cut into an error: the job has no use for it."""
        reply, bound = self.reply, self.request.max_tokens
        if reply is None or not reply.truncated:
            return
        where = "by the model's own limit" if bound is None else f"after {bound:,} tokens"
        problem = f"its answer was cut {where} and on_truncated is fail; raise max_tokens, or keep or continue it"
        self.error = AnswerCut(self.grant.model, problem, bound=bound, usage=reply.usage)
        self.error.rate_limits = reply.rate_limits
        self.reply = None

    async def send(self, clients: ModelClients) -> None:
        """Send the request at the granted moment; afterwards `reply` or `error` is set.

        Cancelling this coroutine closes the connection.
        """
        name = self.grant.model
        client = clients.of(name)
        if self.grant.wait_s > 0:
            await asyncio.sleep(self.grant.wait_s)
        self.sent, started = True, time.monotonic()
        try:
            self.reply = await client.complete(self.request)
        except ModelError as failed:
            self.error = failed
        except Exception as failed:
            log.exception("a call of model %s failed in our own code", name)
            self.error = ModelError(name, f"the call failed in our own code: {type(failed).__name__}")
        finally:
            self.latency_s = round(time.monotonic() - started, 4)

    def settlement(self, limiter: Limiter, *, waited_s: float | None = None) -> Command[str]:
        """The command that releases what this attempt acquired, and reports how it went.

        `waited_s` are the seconds that its call stood in the model's queue.
        """
        end = AttemptEnd(
            self.outcome,
            usage=self.usage,
            cost_usd=self.cost_usd,
            # The refill time of a bucket has no meaning for a key that the provider refuses.
            pause_s=find_pause(self.error, None if self.outcome == "unusable" else self.rate_limits),
            why=self.error.code if self.error is not None else "",
            took_s=self.latency_s if self.sent else None,
            waited_s=waited_s,
            rate_limits=self.rate_limits,
        )
        return limiter.release(self.grant, end)

    def event(self, name: CallId, claim: Claim, *, retry_in_s: float | None = None) -> AttemptEvent:
        """This attempt for telemetry. `retry_in_s`: seconds until the part is tried again, None where it is not."""
        ended: dict[Outcome, Literal["succeeded", "cancelled"]] = {"ok": "succeeded", "cancelled": "cancelled"}
        return AttemptEvent(
            job=name.job,
            index=name.index,
            number=claim.attempt + self.hedge,
            model=self.grant.model,
            provider=self.model.provider,
            route=claim.decision.route,
            outcome="failed" if self.error is not None else ended.get(self.outcome, "cancelled"),
            latency_s=self.latency_s,
            queue_wait_s=round(claim.queue_wait_s, 4),
            first_byte_s=self.reply.first_byte_s if self.reply is not None else None,
            usage=self.usage or Usage(),
            cost_usd=self.cost_usd,
            finish_reason=self.finish_reason,
            error=self.error.code if self.error is not None else None,
            status=self.error.status if self.error is not None else None,
            retry_in_s=retry_in_s,
            hedge=self.hedge,
            probe=self.grant.probe,
        )


async def acquire(ports: Ports, name: CallId, owner: str, claim: Claim, demand: Demand) -> Grant | Denied:
    """Acquire what a run's first attempt needs, and its lease, in one round trip; a job's budget is booked before.

    While every place among the calls in flight is taken, the call waits a moment in its slot.
    """
    end, pause = time.monotonic() + SLOT_WAIT, FIRST_PAUSE
    while True:
        granted = await _acquire_once(ports, name, owner, claim, demand)
        if not (isinstance(granted, Denied) and granted.reason in {"capacity", "key"}) or time.monotonic() > end:
            return granted
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _acquire_once(ports: Ports, name: CallId, owner: str, claim: Claim, demand: Demand) -> Grant | Denied:
    ledger, budget, means = ports.ledger, claim.job.budget_usd, ports.ledger.limiter.mean_outputs
    if budget is not None:
        # First: a call that waits for its job's budget must use up no requests of its model.
        if demand.output_tokens is None and demand.model not in means:
            means |= await ledger.limiter.read_means([demand.model])
        usd = estimate_cost(demand, means.get(demand.model, FIRST_MEAN))
        word, figure = await ledger.jobs.book(name.job, name.index, owner, usd=usd, budget=budget)
        if word == "broke":
            return Denied("job_budget", cost_usd=usd, left_usd=figure)
        if word == "wait":
            return Denied("job_booked", wait_s=figure / CALLS_A_SECOND)
    commands: list[Command[Any] | Words] = [
        ledger.limiter.acquire(demand),
        *ledger.fleet.lease({claim.part.model: [name]}, seconds=LEASE),
    ]
    # If this call is cancelled while the commands are on their way, the limiter may have granted it all the same.
    replies = await ledger.store.run(*commands, late=lambda late: _release_unsent(ports, late[0]))
    granted: Grant | Denied = replies[0]
    means[demand.model] = granted.mean_output
    if budget is not None and isinstance(granted, Denied):
        # A call that only waits holds no booking.
        await ledger.jobs.book(name.job, name.index, owner, usd=0.0, budget=budget)
    return granted


def _release_unsent(ports: Ports, granted: Any) -> None:
    """Release a grant in the background that no attempt will use."""
    if isinstance(granted, Grant):
        task = asyncio.ensure_future(settle(ports, [ports.ledger.limiter.release(granted, AttemptEnd("unasked"))]))
        _IN_BACKGROUND.add(task)
        task.add_done_callback(_IN_BACKGROUND.discard)


async def settle(ports: Ports, settlements: Sequence[Command[Any] | Words]) -> None:
    """Send settlements alone, where no step of the ledger follows. If this fails the leases lapse."""
    if settlements:
        with contextlib.suppress(PointsmanError, TimeoutError):
            await asyncio.wait_for(ports.ledger.store.run(*settlements), SETTLE_TIMEOUT)


def add_answer(kept: Kept, reply: ModelReply, *, most: int) -> Kept:
    """The answer so far with what was answered now; the thoughts have `most` characters at most."""
    thoughts = "\n\n".join(filter(None, (kept.reasoning, reply.reasoning)))
    if len(thoughts) > most:
        thoughts = thoughts[: most - 1] + "…" if most else ""
    return replace(kept, text=kept.text + reply.text, reasoning=thoughts, continued=kept.continued + 1)


def add_attempt(tried: Sequence[Tried], model: str, error: ModelError | None) -> tuple[Tried, ...]:
    """`tried` with one more attempt at `model`; `error` is None where it answered."""
    throttled = isinstance(error, RateLimited | QuotaExhausted)
    before = next((item for item in tried if item.model == model), Tried(model=model))
    after = before.model_copy(
        update={
            "attempts": before.attempts + (not throttled),
            "throttled": before.throttled + throttled,
            "error": None if error is None else error.code,
        }
    )
    return (*(item for item in tried if item.model != model), after)
