"""One claim of a part: its attempts, usually one, and what is told of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from celery.utils.log import get_task_logger

from tasks.calling.attempt import Attempt, acquire
from tasks.calling.hedge import race
from tasks.calling.request import bounds_of, demand_of, prompt_of, request_of
from tasks.calling.retry import note, unspent
from tasks.contract.errors import PointsmanError
from tasks.contract.ids import CallId
from tasks.contract.result import Tried, Usage
from tasks.ledger import Claim, PartRecord
from tasks.ledger.limiter import Denied, Grant

if TYPE_CHECKING:
    from tasks.config.prompts import Prompt
    from tasks.contract.model_client import ModelRequest
    from tasks.ledger.store import Words
    from tasks.queue.ports import Ports

__all__ = ["Turn"]

log = get_task_logger(__name__)


@dataclass(eq=False, slots=True)
class Turn:
    """`grants` are those that the heartbeat of this process keeps, as they come."""

    name: CallId
    owner: str
    claim: Claim
    attempts: list[Attempt] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    #: What the model is told, once that is known.
    prompt: Prompt | None = None

    @property
    def time_left_s(self) -> float | None:
        """Seconds until the job's deadline, or None."""
        left = self.claim.time_left_s
        return None if left is None else left - (time.monotonic() - self.began)

    @property
    def cost_usd(self) -> float:
        return sum(attempt.cost_usd for attempt in self.attempts)

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Every model that was asked for this part, in this turn and before. One that lost a race was not tried."""
        tried = self.claim.tried
        for attempt in self.attempts:
            if attempt.reply is not None or attempt.error is not None:
                tried = note(tried, attempt.grant.model, attempt.error)
        return tried

    def reports(self, ports: Ports) -> list[Words]:
        """What the limits shall be told."""
        return [
            attempt.report(ports, waited_s=None if attempt.hedge else self.claim.queue_wait_s)
            for attempt in self.attempts
        ]

    def tell(self, ports: Ports, *, retry_in_s: float | None = None) -> None:
        """Tell telemetry of every attempt that was sent."""
        for attempt in self.attempts:
            if attempt.sent:
                ports.hook.attempt(attempt.event(self.name, self.claim, retry_in_s=retry_in_s))

    def record(self, answered: Attempt | None, error: str | None) -> PartRecord:
        """What is kept of the part, now that it ends."""
        reply = answered.reply if answered is not None else None
        last = answered or (self.attempts[0] if self.attempts else None)
        return PartRecord(
            usage=(last.usage if last is not None else None) or Usage(),
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
        )

    async def attempt(self, ports: Ports) -> Attempt | Denied:
        """Take, demand, and where that lasts long have another model race it; returns the attempt that counts.

        Raises:
            ConfigError, KeyError: where the configuration of this process lacks the model, its route or its key.
            PromptError: where the prompt can't be filled in.
        """
        claim, models = self.claim, ports.config.models
        self.prompt = prompt_of(claim, ports.config, self.name.index)
        told = self.prompt.text if self.prompt is not None else None
        ports.clients.of(claim.model)  # raises here what is wrong with the configuration, before anything is taken

        def asked(name: str) -> ModelRequest:
            return request_of(claim, name, models[name], told, self.name.index)

        def start(grant: Grant, *, hedge: bool) -> Attempt:
            model, left = models[grant.model], self.time_left_s
            timeout = model.timeout if left is None else max(0.001, min(model.timeout, left - grant.wait_s))
            attempt = Attempt(grant, replace(asked(grant.model), timeout=timeout), model, hedge=hedge)
            self.attempts.append(attempt)
            self.grants.append(grant)
            return attempt

        async def second() -> Attempt | None:
            others = [name for name in unspent(claim.tried, bounds_of(claim, models)) if name != claim.model]
            rival = others[0] if others else claim.model
            demand = demand_of(rival, models[rival], asked(rival), id_=f"{self.owner}h", payer=claim.model)
            try:
                ports.clients.of(rival)
                grant = await ports.ledger.limiter.acquire(demand, horizon=0.0)
            except PointsmanError as error:
                # The first call goes on: a hedge is never worth what it should save.
                log.warning("no hedge for %s: %s", self.name, error)
                return None
            return start(grant, hedge=True) if isinstance(grant, Grant) else None

        model = models[claim.model]
        demand = demand_of(claim.model, model, asked(claim.model), id_=self.owner)
        granted = await acquire(ports, self.name, self.owner, claim, demand)
        if not isinstance(granted, Grant):
            return granted
        after = ports.latencies.hedge_delay(claim.model, model.hedge)
        return await race(start(granted, hedge=False), ports.clients, after=after, second=second)
