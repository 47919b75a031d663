"""One claimed execution of a part: one attempt at its model, or two that race, and what follows from them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from celery.utils.log import get_task_logger

from tasks.calling.attempt import (
    Attempt,
    acquire,
    add_answer,
    add_attempt,
    build_request,
    describe_config_problem,
    estimate_demand,
    render_prompt,
    settle,
)
from tasks.calling.hedge import acquire_hedge, race
from tasks.calling.retry import (
    OVER_BUDGET,
    Retry,
    decide,
    describe_attempts,
    least_asked,
    may_continue,
    select_models,
    unspent,
)
from tasks.calling.waiting import describe_denial
from tasks.config.models import Model
from tasks.config.prompts import Prompt
from tasks.contract.errors import AnswerCut, ConfigError, PointsmanError, PromptError
from tasks.contract.job import CallId, Job
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Tried, Usage
from tasks.ledger import QUEUED_LEASE, Admitted, Claim, Kept, PartRecord
from tasks.ledger.limiter import Denied, Grant
from tasks.ledger.store import Command, repeat_while_unreachable
from tasks.parallel.part_limits import MOST_COPIED
from tasks.queue.ports import Ports
from tasks.routing.choose import rank_again
from tasks.routing.options import is_sticky
from tasks.workflows.voting import read_ballot

log = get_task_logger(__name__)

#: Seconds that a denied call waits in the backlog for a limit whose end can't be foreseen: a place among the calls in
#: flight, or a bucket of tokens that has no room for a call of this size.
LEAST_WAIT, MOST_WAIT = 0.5, 30.0

#: Reasons whose end the backlog doesn't know, so that the call looks again after a while.
_POLLED = {"capacity", "key", "tpm", "left", "booked", "job_booked"}
#: Characters of a part's thoughts that are kept; all those of a job are never more than what its parts may repeat.
MOST_REASONING = 65_536

#: Jitter of retries: needs no secrecy, only that workers differ.
_JITTER = random.Random()  # noqa: S311


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended, and what is to be published now."""

    #: The final state of the part. None: the chord must not count this message, another one will end the part.
    state: str | None
    #: Calls that were admitted meanwhile, of whatever job.
    admitted: Sequence[Admitted] = ()
    #: The part decided its job early: the join does not wait for the chord.
    join: bool = False
    #: The job, where it has ended as a whole with this part.
    ended_job: Job | None = None


@dataclass(eq=False, slots=True)
class Run:
    """`grants` are those of its attempts: the heartbeat of this process renews their leases."""

    ports: Ports
    name: CallId
    owner: str
    claim: Claim
    attempts: list[Attempt] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    #: The system prompt, once it is rendered.
    prompt: Prompt | None = None

    async def execute(self) -> RunOutcome:
        """Ask the model, and write the part's end, or when and with which models it is tried again."""
        if self.time_left_s is not None and self.time_left_s <= 0:
            waited = await self.ports.ledger.views.problem(self.name.job, self.name.index)
            waited = waited or f"it stood in the queue of model {self.claim.part.model!r}, as its capacity was in use"
            return await self._expire(f"the deadline passed before the call started; {waited}")
        task = asyncio.current_task()
        assert task is not None
        try:
            with self.ports.leases.keep(self.name, self.claim.part.model, task, self.grants) as running:
                ended = await self._ask()
        except asyncio.CancelledError:
            if not running.cancelled:
                await self._hand_back()
                raise
            # The job was cancelled, and its attempt with it. This task goes on: it has an end to write.
            task.uncancel()
            self._publish_events()
            return await self._finish(None, error="cancelled")
        except (ConfigError, KeyError, PromptError) as problem:
            return await self._finish(None, error=describe_config_problem(self.claim.part.model, problem))
        return await self._wait_or_fail(ended) if isinstance(ended, Denied) else await self._conclude(ended)

    async def _conclude(self, ended: Attempt) -> RunOutcome:
        """Write what follows from the attempt that counts."""
        if self.claim.job.on_truncated == "fail":
            ended.refuse_cut()
        if ended.reply is None:
            return await self._retry_or_fail(ended)
        if ended.model.hedge is not None:
            self.ports.latencies.record(ended.grant.model, ended.latency_s)
        if ended.finish_reason == "length" and may_continue(self.claim, self.tried):
            return await self._continue(ended.grant.model, self._add_to_kept(ended.reply))
        self._publish_events()
        return await self._finish(ended)

    async def fail(self, problem: str) -> RunOutcome:
        """End the part as failed without asking its model."""
        return await self._finish(None, error=problem)

    # -- asking ----------------------------------------------------------------------------------

    async def _ask(self) -> Attempt | Denied:
        """Acquire what an attempt needs, ask, and race a slow answer; returns the attempt that counts.

        Raises:
            ConfigError, KeyError: where the configuration of this process lacks the model, its route or its key.
            PromptError: where the prompt can't be filled in.
        """
        model = self.ports.config.models[self.claim.part.model]
        self.prompt = render_prompt(self.claim, self.ports.config, self.name.index)
        if self.claim.kept.cut_at and self.claim.part.model not in self._able():
            return Denied("room")
        self.ports.clients.of(self.claim.part.model)  # raises a ConfigError before anything is acquired
        request = self._request(self.claim.part.model)
        demand = estimate_demand(self.claim.part.model, model, request, id_=self.owner)
        granted = await acquire(self.ports, self.name, self.owner, self.claim, demand)
        if isinstance(granted, Denied):
            return granted
        first = self._attempt(granted, request)
        if model.hedge is not None:
            delay = self.ports.latencies.hedge_delay(self.claim.part.model, model.hedge)
            if delay is not None:
                return await race(first, delay, self.ports.clients, self._acquire_hedge)
        await first.send(self.ports.clients)
        return first

    async def _acquire_hedge(self) -> Attempt | None:
        """A second attempt, with another model where the part has one; None where the limiter denies it.

        Hedges are bounded over the whole fleet: each call earns its model a share of one (`limiter.lua`).
        """
        asked, models = self.claim.part.model, self.ports.config.models
        others = [name for name in unspent(self.claim.tried, self._able()) if name != asked]
        rival = others[0] if others else asked
        request = self._request(rival)
        demand = estimate_demand(rival, models[rival], request, id_=f"{self.owner}h", payer=asked)
        try:
            self.ports.clients.of(rival)
            grant = await acquire_hedge(self.ports, self.name, self.claim.job, self.grants[0], demand)
        except PointsmanError as error:
            # A hedge is optional: the first attempt goes on.
            log.warning("no hedge for %s: %s", self.name, error)
            return None
        return self._attempt(grant, request, hedge=True) if isinstance(grant, Grant) else None

    def _attempt(self, grant: Grant, request: ModelRequest, *, hedge: bool = False) -> Attempt:
        model, left = self.ports.config.models[grant.model], self.time_left_s
        timeout = model.timeout if left is None else max(0.001, min(model.timeout, left - grant.wait_s))
        attempt = Attempt(grant, replace(request, timeout=timeout), model, hedge=hedge)
        self.attempts.append(attempt)
        self.grants.append(grant)
        return attempt

    def _request(self, name: str) -> ModelRequest:
        prompt = self.prompt.text if self.prompt is not None else None
        return build_request(self.claim, name, self.ports.config.models[name], prompt, self.name.index)

    # -- what follows ----------------------------------------------------------------------------

    async def _continue(self, model: str, kept: Kept) -> RunOutcome:
        """Ask for the rest of an answer: an attempt like any other, first of the same model."""
        self._publish_events(retry_in_s=0.0)
        others = tuple(name for name in unspent(self.tried, self._able(kept)) if name != model)
        return await self._put_back("its answer was cut, and is continued", Retry(0.0, (model,), others), kept=kept)

    def _add_to_kept(self, reply: ModelReply) -> Kept:
        """The answer so far, with what was answered now, and the thoughts as far as the job keeps them."""
        shared = MOST_COPIED * self.ports.config.limits.payload_bytes // max(1, self.claim.total)
        most = min(MOST_REASONING, shared) if self.claim.job.reasoning else 0
        return add_answer(self.claim.kept, reply, most=most)

    async def _retry_or_fail(self, failed: Attempt) -> RunOutcome:
        error, claim, kept = failed.error, self.claim, self.claim.kept
        assert error is not None
        if isinstance(error, AnswerCut):
            bound = max(error.bound or 0, kept.cut_at.get(error.model, 0))
            kept = replace(kept, cut_at={**kept.cut_at, error.model: bound})
        able = self._able(kept)
        sticky = is_sticky(claim.decision.strategy)
        decision = decide(error, self.tried, able, rng=_JITTER, sticky=sticky, most=claim.job.max_attempts)
        if isinstance(decision, Retry) and claim.retry_left_s is not None and decision.delay_s >= claim.retry_left_s:
            decision = f"{error}; its time for retries is over ({describe_attempts(self.tried, able)})"
        if isinstance(decision, str):
            self._publish_events()
            return await self._finish(None, error=decision)
        self._publish_events(retry_in_s=decision.delay_s)
        if self.time_left_s is not None and decision.delay_s >= self.time_left_s:
            return await self._expire(f"the deadline comes before the next attempt; {error}")
        return await self._put_back(str(error), decision, kept=kept)

    async def _wait_or_fail(self, denied: Denied) -> RunOutcome:
        """Put the call back until one of its models has room. No model was asked: this counts as no attempt."""
        claim, model = self.claim, self.claim.part.model
        if denied.reason == "job_budget":
            why = f"it would cost about ${denied.cost_usd:.6f}, of budget_usd ${claim.job.budget_usd:g} there is"
            return await self._finish(None, error=f"the job's budget is used up: {why} ${denied.left_usd:.6f} left")
        left: tuple[str, ...] = unspent(claim.tried, self._able()) or (model,)
        if denied.reason == "dear":
            left = tuple(name for name in left if name != model)
            others = tuple(one for one in claim.tried if one.model != model)
            self.claim = replace(claim, tried=(*others, Tried(model=model, error=OVER_BUDGET)))
            budget = self.ports.config.models[model].budget_usd_per_day or 0.0
            why = f"model {model!r}: the call costs about ${denied.cost_usd:.6f}, budget_usd_per_day is ${budget:g}"
            if not left:
                return await self._finish(None, error=f"{why}; set a lower max_tokens, or raise the budget")
        elif denied.reason == "room" and model in left:
            return await self._finish(None, error=f"model {model!r} has no more room for an answer that was cut")
        else:
            why = describe_denial(model, denied.reason)
        if claim.tried and claim.retry_left_s is not None and denied.wait_s >= claim.retry_left_s:
            return await self._finish(None, error=f"{why}; its time for retries is over")
        # The backlog itself holds calls back while a breaker is open, a budget spent, or a model paused.
        seconds = 0.0
        if denied.reason in _POLLED:
            seconds = min(max(denied.wait_s, LEAST_WAIT), MOST_WAIT) * _JITTER.uniform(1.0, 1.2)
        candidates = left if is_sticky(claim.decision.strategy) else least_asked(claim.tried, left)
        if denied.reason in {"left", "booked"} and (rich := tuple(name for name in left if name != model)):
            seconds, candidates = 0.0, rich
        fallbacks = tuple(name for name in left if name not in candidates)
        return await self._put_back(why, Retry(seconds, candidates, fallbacks), counts=False)

    async def _put_back(
        self, problem: str, retry: Retry, *, kept: Kept | None = None, counts: bool = True
    ) -> RunOutcome:
        """Give up the claim and have the call wait in the backlog: its next message is the one that counts."""
        ports, claim = self.ports, self.claim
        record = PartRecord(error=problem, tried=self.tried, usage=self.usage, spent_usd=self.cost_usd)
        released, *_ = await ports.ledger.store.run(
            ports.ledger.jobs.retry(
                self.name.job, self.name.index, self.owner, record, kept=kept or claim.kept, counts=counts
            ),
            *self._settlements(),
        )
        if not released:
            return RunOutcome(None, await ports.ledger.free(self.name, claim.part.model))
        # Read after the attempts were settled: the strategy takes them into account.
        models = [model for model in (*retry.candidates, *retry.fallbacks) if model in ports.config.models]
        snapshot = await ports.ledger.fleet.snapshot(models, turn=claim.decision.route)
        ranking = rank_again(
            claim.job,
            claim.decision,
            ports.config,
            snapshot,
            candidates=retry.candidates,
            fallbacks=retry.fallbacks,
            text=claim.part.text,
        )
        priority = claim.job.priority
        return RunOutcome(
            None,
            await ports.ledger.delay(self.name, claim.part.model, ranking, priority=priority, seconds=retry.delay_s),
        )

    async def _finish(self, answered: Attempt | None, *, error: str | None = None) -> RunOutcome:
        """Write the part's end: the answer, or why there is none."""
        claim, output, finish, thoughts = self.claim, None, None, ""
        if answered is not None and answered.reply is not None:
            answer = self._add_to_kept(answered.reply)
            output, thoughts, finish = answer.text, answer.reasoning, answered.reply.finish_reason
        elif claim.kept.text:
            # The answer has no more to it: what there is counts, and says that it was cut.
            log.warning("the answer of %s stays cut: %s", self.name, error)
            output, thoughts, finish, error = claim.kept.text, claim.kept.reasoning, "length", None
        record, settlements = self._record(answered, error), self._settlements()
        record = replace(record, finish_reason=finish, reasoning=thoughts)
        if claim.job.kind == "vote" and output is not None and not claim.part.bare:
            voter = answered.grant.model if answered is not None else claim.part.model
            ballot, weight = read_ballot(
                self.ports.config, claim.job, claim.decision.route, voter, output, truncated=finish == "length"
            )
            record = replace(record, ballot=ballot, weight=weight)
        written, admitted = await repeat_while_unreachable(
            lambda: self.ports.ledger.settle(
                self.name, claim.part.model, self.owner, output=output, record=record, reports=settlements
            )
        )
        state = "failed" if output is None else "succeeded"
        if written.word == "stale":
            return RunOutcome(None, admitted)
        if written.word == "over":
            return RunOutcome("cancelled", admitted)
        if written.word == "ended":
            return RunOutcome(state, admitted, ended_job=claim.job)
        return RunOutcome(state, admitted, join=written.word == "complete" and written.detail != "all")

    async def _expire(self, why: str) -> RunOutcome:
        """End the whole job at its deadline, and drop its other calls."""
        job, ledger = self.claim.job, self.ports.ledger
        if not self.attempts:
            # No model was asked: this run is no attempt.
            record = PartRecord(error=why, tried=self.claim.tried)
            await ledger.jobs.retry(self.name.job, self.name.index, self.owner, record, counts=False)
        await ledger.cancel(job.id, "expired", why)
        await settle(self.ports, self._settlements())
        return RunOutcome("cancelled", await ledger.free(self.name, self.claim.part.model), ended_job=job)

    async def _hand_back(self) -> None:
        """This process ends and its message returns to the broker: let the next worker claim the part at once."""
        ledger = self.ports.ledger
        handed = ledger.jobs.hand_back(self.name.job, self.name.index, self.owner)
        leases = ledger.fleet.lease({self.claim.part.model: [self.name]}, seconds=QUEUED_LEASE)
        await settle(self.ports, [handed, *leases, *self._settlements()])

    # -- what is kept ----------------------------------------------------------------------------

    @property
    def time_left_s(self) -> float | None:
        """Seconds until the job's deadline, or None."""
        left = self.claim.time_left_s
        return None if left is None else left - (time.monotonic() - self.started)

    @property
    def cost_usd(self) -> float:
        return sum(attempt.cost_usd for attempt in self.attempts)

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts, those of earlier runs too, with or without an answer that counts."""
        return sum((attempt.usage for attempt in self.attempts if attempt.usage is not None), self.claim.used)

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Every model that was asked for this part, in this run and before, but those that lost a race."""
        tried = self.claim.tried
        for attempt in self.attempts:
            if attempt.reply is not None or attempt.error is not None:
                tried = add_attempt(tried, attempt.grant.model, attempt.error)
        return tried

    def _able(self, kept: Kept | None = None) -> Mapping[str, Model]:
        """The models that the part may ask, with what its cut answers have left by now."""
        return select_models(self.claim, self.ports.config.models, (kept or self.claim.kept).cut_at)

    def _settlements(self) -> list[Command[str]]:
        """The commands that settle all attempts with the limiter."""
        waited_s = self.claim.queue_wait_s
        return [
            attempt.settlement(self.ports.ledger.limiter, waited_s=None if attempt.hedge else waited_s)
            for attempt in self.attempts
        ]

    def _publish_events(self, *, retry_in_s: float | None = None) -> None:
        """Pass every attempt that was sent to telemetry."""
        for attempt in self.attempts:
            if attempt.sent:
                self.ports.hook.attempt(attempt.event(self.name, self.claim, retry_in_s=retry_in_s))

    def _record(self, answered: Attempt | None, error: str | None) -> PartRecord:
        """What the ledger keeps of the part beside its output."""
        reply = answered.reply if answered is not None else None
        last = answered or (self.attempts[0] if self.attempts else None)
        return PartRecord(
            usage=self.usage,
            cost_usd=self.cost_usd,
            spent_usd=self.cost_usd,
            latency_s=last.latency_s if last is not None else None,
            queue_wait_s=round(self.claim.queue_wait_s, 4),
            simulated=(last is not None and last.model.provider == "simulated")
            or (reply is not None and reply.simulated),
            error=error,
            model=answered.grant.model if answered is not None else None,
            hedges=sum(attempt.hedge and attempt.sent for attempt in self.attempts),
            tried=self.tried,
            prompt=self.prompt.version if self.prompt is not None else None,
            unasked=not any(attempt.sent for attempt in self.attempts),
        )
