"""Step 4, once a part: claim it, take what the limits ask for, ask the model, write the answer down.

Once a part's output is written its model is never asked again. What fails is tried again, with the same model or the
next; what has to wait leaves its slot. A part's failure is a value: it is written like an answer, and the job's policy
decides what it means. Nothing here raises into the chord but `Ignore`, which says that this message is not the one that
counts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from celery import shared_task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger

from tasks.calling.attempt import Attempt, release
from tasks.calling.request import bounds_of
from tasks.calling.retry import Retry, decide, least_asked, unspent
from tasks.calling.turn import Turn
from tasks.contract.errors import ConfigError, PermanentModelError, PromptError, Unreachable
from tasks.contract.ids import CallId
from tasks.contract.job import Job
from tasks.ledger import QUEUED_LEASE, Admitted, Claim
from tasks.ledger.limiter import Denied
from tasks.queue.app import model_of_queue
from tasks.queue.ports import Ports, ports_of
from tasks.routing.choose import rank_again
from tasks.routing.options import is_sticky
from tasks.workflows.voting import ballot_for

__all__ = ["call", "run_call"]

log = get_task_logger(__name__)

T = TypeVar("T")

#: Seconds for which an answer is held while Redis is away, and between two tries to write it.
SETTLE_PATIENCE = 120.0
SETTLE_PAUSE = 0.5
#: Seconds that a call waits outside for what nobody can foretell: a place among those in flight, a bucket of tokens
#: that has no room for a call of this size.
LEAST_WAIT, MOST_WAIT = 0.5, 30.0

#: What is in the way, as people are told it.
_REASONS = {
    "breaker": "it is left alone after failures",
    "budget": "its budget of the day is used up",
    "paused": "its provider asked for a pause",
    "capacity": "as many calls as it takes are in flight",
    "key": "as many calls as its key allows are in flight",
    "rpm": "its requests of this minute are used up",
    "tpm": "its tokens of this minute are used up",
}

#: Jitter of retries: needs no secrecy, only that workers differ.
_JITTER = random.Random()  # noqa: S311


@dataclass(frozen=True, slots=True)
class Done:
    """How a call ended and what is to be published now. `state` is None where this message does not count."""

    state: str | None
    admitted: Sequence[Admitted] = ()
    join: bool = False
    #: The job that waits for the end of this one, which asks for its route.
    asking_job: str | None = None
    #: The part that this job is the work of, which has ended with it.
    parent: str | None = None


@shared_task(name="tasks.call", bind=True)
async def call(self: Any, job_id: str, index: int, wave: int | None = None) -> dict[str, Any]:
    """Run one part. Returns a summary for the chord, never a text."""
    ports = ports_of(self.app)
    queue = (self.request.delivery_info or {}).get("routing_key") or ""
    done = await _run_and_publish(ports, CallId(job_id, index, wave), at=model_of_queue(queue) or "")
    if done.state is None:
        raise Ignore
    return {"index": index, "state": done.state}


async def _run_and_publish(ports: Ports, name: CallId, *, at: str) -> Done:
    done = await run_call(ports, name, at=at)
    try:
        if done.admitted:
            await ports.publisher.send_calls(done.admitted)
        if done.join:
            await ports.publisher.send_join(name.job)
        if done.asking_job is not None:
            await ports.publisher.send_routes([(done.asking_job, "high")])
        if done.parent is not None:
            await ports.publisher.send_finish_parts([CallId.parse(done.parent)])
    except Unreachable as error:
        # The part itself has ended; the sweeper sends what could not be sent.
        log.warning("after call %s: %s", name, error)
    return done


async def run_call(ports: Ports, name: CallId, *, at: str = "") -> Done:
    """`at` is the model in whose queue the message stood, where that is known."""
    jobs, fleet = ports.ledger.jobs, ports.ledger.fleet
    owner = ports.leases.new_owner()
    claim = await jobs.claim(name.job, name.index, owner, at=at)
    if not isinstance(claim, Claim) and claim.word == "busy":
        model = (await jobs.models(name.job, name.index, name.index + 1))[0]
        if await fleet.lease_left(name, model) > 0:
            # It runs elsewhere, or its worker died a moment ago: then the sweeper sends it again, past the lease.
            return Done(None)
        claim = await jobs.claim(name.job, name.index, owner, dead=claim.owner, at=at)
    if not isinstance(claim, Claim):
        if claim.word == "gone":
            log.warning("no such part: %s", name)
        admitted: Sequence[Admitted] = ()
        if claim.word == "elsewhere":
            # It moved, or waits again: another message counts. A call that waits may be admitted here this moment, and
            # keeps the place that one that stands elsewhere has no use for.
            return Done(None, await ports.ledger.free(name, at) if claim.model else ())
        if claim.word == "done":
            # Nobody else may come to give back the place that this message stood for.
            # A job that was cancelled while it was admitted never learned its model: that place's lease lapses.
            models = await jobs.models(name.job, name.index, name.index + 1)
            places = [Admitted(name, model) for model in dict.fromkeys([*models, *([at] if at else [])])]
            admitted = await ports.ledger.free_all(places)
        return Done(None if claim.word == "busy" else claim.state or "gone", admitted)
    turn = Turn(name, owner, claim)
    if claim.time_left_s is not None and claim.time_left_s <= 0:
        return await _expire(ports, turn, "the deadline passed before the call started")
    return await _ask(ports, turn)


async def _ask(ports: Ports, turn: Turn) -> Done:
    this = asyncio.current_task()
    assert this is not None
    try:
        with ports.leases.keep(turn.name, turn.claim.model, this, turn.grants) as held:
            ended = await turn.attempt(ports)
    except asyncio.CancelledError:
        if not held.cancelled:
            # This process ends, and the message goes back to the broker: whoever gets it next may start at once.
            ledger, name = ports.ledger, turn.name
            handing = ledger.jobs.handing_back(name.job, name.index, turn.owner)
            leases = ledger.fleet.lease_commands({turn.claim.model: [name]}, seconds=QUEUED_LEASE)
            await release(ports, [handing, *leases, *turn.reports(ports)])
            raise
        # The job was cancelled, and with it the attempt. The task goes on: there is an end to write down.
        this.uncancel()
        turn.tell(ports)
        return await _settle(ports, turn, None, error="cancelled")
    except (ConfigError, KeyError, PromptError) as problem:
        return await _settle(ports, turn, None, error=_why_not(turn.claim.model, problem))
    if isinstance(ended, Denied) and ended.reason != "job_budget":
        return await _wait(ports, turn, ended)
    if isinstance(ended, Denied):
        why = f"it would cost about ${ended.cost_usd:.6f}, of budget_usd ${turn.claim.job.budget_usd:g} there is"
        return await _settle(ports, turn, None, error=f"the job's budget is used up: {why} ${ended.left_usd:.6f} left")
    if ended.reply is None:
        return await _failed(ports, turn, ended)
    ports.latencies.record(ended.grant.model, ended.latency_s)
    turn.tell(ports)
    return await _settle(ports, turn, ended)


def _why_not(model: str, problem: ConfigError | KeyError | PromptError) -> str:
    """The configuration changed under the job, or this process lacks what it names: no attempt will mend that."""
    if isinstance(problem, PromptError):
        return str(problem)
    lacks = f"{problem} is no longer in the configuration" if isinstance(problem, KeyError) else str(problem)
    return str(PermanentModelError(model, f"can't be asked: {lacks}"))


async def _failed(ports: Ports, turn: Turn, ended: Attempt) -> Done:
    error, claim = ended.error, turn.claim
    assert error is not None
    bounds = bounds_of(claim, ports.config.models)
    verdict = decide(error, turn.tried, bounds, rng=_JITTER, sticky=is_sticky(claim.decision.strategy))
    if not isinstance(verdict, Retry):
        turn.tell(ports)
        return await _settle(ports, turn, None, error=verdict.reason)
    turn.tell(ports, retry_in_s=verdict.delay_s)
    if turn.time_left_s is not None and verdict.delay_s >= turn.time_left_s:
        return await _expire(ports, turn, f"the deadline comes before the next attempt; {error}")
    return await _put_back(ports, turn, str(error), verdict)


async def _wait(ports: Ports, turn: Turn, denied: Denied) -> Done:
    """No model was asked, so this is no attempt: the call waits outside for whichever of its models is free."""
    claim = turn.claim
    bounds = bounds_of(claim, ports.config.models)
    why = f"model {claim.model!r} has to wait: {_REASONS[denied.reason]}"
    if claim.tried and bounds.seconds is not None and denied.wait_s >= bounds.seconds:
        return await _settle(ports, turn, None, error=f"{why}; its time for retries is over")
    # What admission can see holds the call back in the backlog. For the rest it comes back when it is time.
    seconds = 0.0
    if denied.reason in {"capacity", "key", "tpm"}:
        seconds = min(max(denied.wait_s, LEAST_WAIT), MOST_WAIT) * _JITTER.uniform(1.0, 1.2)
    left = unspent(claim.tried, bounds) or (claim.model,)
    candidates = left if is_sticky(claim.decision.strategy) else least_asked(claim.tried, left)
    fallbacks = tuple(model for model in left if model not in candidates)
    return await _put_back(ports, turn, why, Retry(seconds, candidates, fallbacks), counts=False)


async def _put_back(ports: Ports, turn: Turn, problem: str, retry: Retry, *, counts: bool = True) -> Done:
    name, claim = turn.name, turn.claim
    reply, *_ = await ports.ledger.store.run(
        ports.ledger.jobs.retrying(
            name.job,
            name.index,
            turn.owner,
            problem,
            tried=turn.tried,
            counts=counts,
            spent_usd=turn.cost_usd,
        ),
        *turn.reports(ports),
    )
    if reply[0] != "ok":
        return Done(None, await ports.ledger.free(name, claim.model))
    # The attempt was reported in the step before: the strategy sees it.
    wanted = [model for model in (*retry.candidates, *retry.fallbacks) if model in ports.config.models]
    snapshot = await ports.ledger.fleet.snapshot(wanted, turn=claim.decision.route)
    ranking = rank_again(
        claim.job,
        claim.decision,
        ports.config,
        snapshot,
        candidates=retry.candidates,
        fallbacks=retry.fallbacks,
        text=claim.part.text,
    )
    admitted = await ports.ledger.delay(name, claim.model, ranking, priority=claim.job.priority, seconds=retry.delay_s)
    # The message that comes back is the one that counts.
    return Done(None, admitted)


async def _settle(ports: Ports, turn: Turn, answered: Attempt | None, *, error: str | None = None) -> Done:
    name, claim = turn.name, turn.claim
    reply = answered.reply if answered is not None else None
    output = reply.text if reply is not None else None
    ballot, weight = "", 1.0
    if claim.job.kind == "vote" and output is not None and not claim.part.bare:
        voter = answered.grant.model if answered is not None else claim.model
        ballot, weight = ballot_for(ports.config, claim.job, claim.decision.route, voter, output)
    record, reports = turn.record(answered, error), turn.reports(ports)
    outcome, admitted = await _keep_trying(
        lambda: ports.ledger.settle(
            name,
            claim.model,
            turn.owner,
            output=output,
            record=record,
            ballot=ballot,
            weight=weight,
            reports=reports,
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
    ended = outcome.word == "ended"
    return Done(
        state,
        admitted,
        join=early,
        asking_job=_asked_for(claim.job) if ended else None,
        parent=claim.job.parent.part if ended and claim.job.parent is not None else None,
    )


async def _expire(ports: Ports, turn: Turn, why: str) -> Done:
    """End the whole job at its deadline: its other calls are dropped, too."""
    job = turn.claim.job
    await ports.ledger.cancel(job.id, "expired", why)
    await release(ports, turn.reports(ports))
    admitted = await ports.ledger.free(turn.name, turn.claim.model)
    parent = job.parent.part if job.parent is not None else None
    return Done("cancelled", admitted, asking_job=_asked_for(job), parent=parent)


def _asked_for(job: Job) -> str | None:
    return job.routed_job


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
