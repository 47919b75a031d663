"""One attempt at a model: take what the limits of the fleet ask for, demand, say how it went.

An attempt that took something owes a report, whatever becomes of it: answered, failed, broken off, or never sent. The
report travels with the next step of the ledger; where none follows, the lease lapses by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from celery.utils.log import get_task_logger

from tasks.calling.cost import cost_of
from tasks.contract.errors import (
    ModelError,
    PermanentModelError,
    PointsmanError,
    RateLimited,
    RetryableModelError,
    SchemaMismatch,
    TimedOut,
    UnusableModelError,
)
from tasks.contract.ids import CallId
from tasks.contract.result import Usage
from tasks.contract.telemetry import AttemptEvent
from tasks.ledger.fleet import LEASE
from tasks.ledger.limiter import Demand, Denied, Grant, Outcome, find_pause, read_grant

if TYPE_CHECKING:
    from tasks.config.models import Model
    from tasks.contract.model_client import ModelClient, ModelReply, ModelRequest
    from tasks.contract.rate_limits import RateLimits
    from tasks.ledger import Claim
    from tasks.ledger.store import Words
    from tasks.queue.ports import Ports

__all__ = ["Attempt", "acquire", "release"]

log = get_task_logger(__name__)

#: Seconds that a call waits in its slot for a place among those in flight, looking again after these pauses. Only slots
#: that a pool has beyond the model's capacity can come to wait here.
PATIENCE = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
#: Seconds for giving back what a call took, when its process ends.
FAREWELL = 1.0

#: Commands on their way that nobody waits for: the loop itself keeps no hold of its tasks.
_ON_THEIR_WAY: set[asyncio.Task[Any]] = set()


#: What an error says about its model, the first that fits. An answer of the wrong form says that it serves; a mistake
#: of our own says nothing.
_BLAME: tuple[tuple[type[ModelError], Outcome], ...] = (
    (RateLimited, "throttled"),
    (UnusableModelError, "unusable"),
    (SchemaMismatch, "neutral"),
    (RetryableModelError, "fault"),
    (PermanentModelError, "neutral"),
)


@dataclass(eq=False, slots=True)
class Attempt:
    """One call to one model, granted. Runs once."""

    grant: Grant
    request: ModelRequest
    model: Model
    hedge: bool = False
    sent: bool = False
    reply: ModelReply | None = None
    error: ModelError | None = None
    latency_s: float = 0.0
    _started: float = field(default=0.0)

    @property
    def cost_usd(self) -> float:
        """USD: of all answers, or of what was booked where the call was broken off: it may well be billed."""
        paid = cost_of(self.model.price, self.usage) if self.usage is not None else 0.0
        return max(paid, self.grant.cost_usd) if self.outcome == "cancelled" else paid

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer, or of answers that could not be used; None where the model gave none."""
        if self.reply is not None:
            return self.reply.usage
        return self.error.usage if self.error is not None else None

    @property
    def rate_limits(self) -> RateLimits | None:
        """What the provider's headers said."""
        if self.reply is not None:
            return self.reply.rate_limits
        return self.error.rate_limits if self.error is not None else None

    @property
    def outcome(self) -> Outcome:
        if self.reply is not None:
            return "ok"
        if self.error is None:
            return "cancelled" if self.sent else "unasked"
        if isinstance(self.error, TimedOut) and self.request.timeout < self.model.timeout:
            return "cancelled"  # the job's deadline cut it short: the model had no chance
        return next((word for kinds, word in _BLAME if isinstance(self.error, kinds)), "cancelled")

    async def run(self, client: ModelClient) -> None:
        """Ask at the granted moment; afterwards `reply` or `error` is there. Cancelling it closes the connection."""
        name = self.grant.model
        if self.grant.wait_s > 0:
            await asyncio.sleep(self.grant.wait_s)
        self.sent, self._started = True, time.monotonic()
        try:
            self.reply = await client.complete(self.request)
        except ModelError as failed:
            self.error = failed
        except Exception as failed:
            log.exception("a call of model %s failed in our own code", name)
            self.error = ModelError(name, f"the call failed in our own code: {type(failed).__name__}")
        finally:
            self.latency_s = round(time.monotonic() - self._started, 4)

    def report(self, ports: Ports, *, waited_s: float | None = None) -> Words:
        """What the limits are told of it, and of the seconds that its call stood in the queue."""
        return ports.ledger.limiter.release_command(
            self.grant,
            self.outcome,
            usage=self.usage,
            cost_usd=self.cost_usd,
            # How soon a bucket refills says nothing about a key that is refused.
            pause_s=find_pause(self.error, None if self.outcome == "unusable" else self.rate_limits),
            why=self.error.code if self.error is not None else "",
            took_s=self.latency_s if self.sent else None,
            waited_s=waited_s,
            rate_limits=self.rate_limits,
        )

    def event(self, name: CallId, claim: Claim, *, retry_in_s: float | None = None) -> AttemptEvent:
        """What telemetry is told of it. `retry_in_s` as in the event."""
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
            finish_reason=self.reply.finish_reason if self.reply is not None else None,
            error=self.error.code if self.error is not None else None,
            status=self.error.status if self.error is not None else None,
            retry_in_s=retry_in_s,
            hedge=self.hedge,
            probe=self.grant.probe,
        )


async def acquire(ports: Ports, name: CallId, owner: str, claim: Claim, demand: Demand) -> Grant | Denied:
    """Acquire what a call's first attempt needs, and its lease, in one round trip.

    Where all places are taken it waits a moment in its slot; what must wait longer is refused.
    """
    end, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        granted = await _acquire_once(ports, name, owner, claim, demand)
        if not (isinstance(granted, Denied) and granted.reason in {"capacity", "key"}) or time.monotonic() > end:
            return granted
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _acquire_once(ports: Ports, name: CallId, owner: str, claim: Claim, demand: Demand) -> Grant | Denied:
    ledger, budget = ports.ledger, claim.job.budget_usd
    usd = 0.0
    commands = [
        ledger.limiter.acquire_command(demand),
        *ledger.fleet.lease_commands({claim.model: [name]}, seconds=LEASE),
    ]
    if budget is not None:
        output = demand.output_tokens if demand.output_tokens is not None else ports.latencies.mean_output(demand.model)
        usd = cost_of(demand.price, Usage(input_tokens=demand.input_tokens, output_tokens=round(output)))
        commands.append(ledger.jobs.booking(name.job, name.index, owner, usd=usd, budget=budget))
    # Where the call is cancelled meanwhile the server may have granted it all the same.
    replies = await ledger.store.run(*commands, late=lambda late: _return(ports, demand, late[0]))
    granted = read_grant(demand, replies[0])
    ports.latencies.record_mean_output(demand.model, granted.mean_output)
    if budget is not None and replies[-1][0] == "broke":
        if isinstance(granted, Grant):
            _soon(release(ports, [ledger.limiter.release_command(granted, "unasked")]))
        return Denied("job_budget", mean_output=granted.mean_output, cost_usd=usd, left_usd=float(replies[-1][1]))
    return granted


def _return(ports: Ports, demand: Demand, reply: Any) -> None:
    if isinstance(reply, Exception):
        return
    granted = read_grant(demand, reply)
    if isinstance(granted, Grant):
        _soon(release(ports, [ports.ledger.limiter.release_command(granted, "unasked")]))


async def release(ports: Ports, reports: Sequence[Words]) -> None:
    """Free what attempts took, where no step of the ledger follows. The leases do it if this fails."""
    if reports:
        with contextlib.suppress(PointsmanError, TimeoutError):
            await asyncio.wait_for(ports.ledger.store.run(*reports), FAREWELL)


def _soon(coroutine: Any) -> None:
    task = asyncio.ensure_future(coroutine)
    _ON_THEIR_WAY.add(task)
    task.add_done_callback(_ON_THEIR_WAY.discard)
