"""Step 1, called by every producer: write checked jobs into the ledger, and publish them to the router.

Once `accept` has returned an id, the job is in the ledger and will end, whatever crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.config.config import Config
from tasks.contract.errors import BadInput, Unreachable, below
from tasks.contract.job import Job
from tasks.ledger import Ledger
from tasks.queue.publisher import Publisher
from tasks.routing.budget import check_budgets, needs_check, possible_models

#: Seconds that the broker has to take route messages, beside 10 ms for each; after that the sweeper publishes them.
PUBLISH_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """`new` is False where the idempotency key, or the id, is that of a job that was accepted before."""

    id: str
    state: str
    new: bool


async def accept(jobs: Sequence[Job], *, ledger: Ledger, publisher: Publisher, config: Config) -> list[Accepted]:
    """Accept checked jobs, in order.

    Raises:
        BadInput: for a budget that no call can fit into, or an idempotency key that was used for another request: no
            job was accepted then. Or for an id that is another job's: the other jobs of the request were accepted.
        Unreachable: if Redis does not answer. The request may be sent again.
    """
    if any(job.budget_usd is not None for job in jobs) or config.has_day_budgets:
        await _check_budgets(jobs, ledger, config)
    wanted = await _bind_idempotency_keys(jobs, ledger)
    words = await ledger.accept(wanted, keep_seconds=config.limits.keep_seconds)
    fresh = [word == "accepted" for word in words]
    routed = [(job.id, job.priority) for job, new in zip(wanted, fresh, strict=True) if new]
    # These jobs are accepted: while the broker doesn't answer, the sweeper publishes them later.
    with contextlib.suppress(Unreachable, TimeoutError):
        await asyncio.wait_for(publisher.send_routes(routed), PUBLISH_TIMEOUT + len(routed) / 100)
    if "taken" in words:
        place = words.index("taken")
        raise BadInput(
            f"[{place}].id" if len(words) > 1 else "id",
            f"{wanted[place].id!r} is another job's",
            "leave id out, or use idempotency_key to submit a job once",
        )
    states = await ledger.views.states([job.id for job, new in zip(wanted, fresh, strict=True) if not new])
    known = iter(states)
    return [
        Accepted(job.id, "accepted" if new else next(known) or "accepted", new)
        for job, new in zip(wanted, fresh, strict=True)
    ]


async def _check_budgets(jobs: Sequence[Job], ledger: Ledger, config: Config) -> None:
    """Refuse jobs that no budget has room for, by the estimates that their calls would be booked with."""
    checked = {place: job for place, job in enumerate(jobs) if needs_check(job, config)}
    if not checked:
        return
    names = sorted({name for job in checked.values() for name in possible_models(job, config)})
    means = await ledger.limiter.read_means(names)
    for place, job in checked.items():
        # A request that is sent again must be accepted again, though the mean has changed since: only bounds count.
        known = means if job.idempotency_key is None else dict.fromkeys(names, 0.0)
        with below(f"[{place}]" if len(jobs) > 1 else ""):
            check_budgets(job, config, known)


async def _bind_idempotency_keys(jobs: Sequence[Job], ledger: Ledger) -> list[Job]:
    """The jobs, each with the id that its idempotency key is bound to."""
    keyed = [place for place, job in enumerate(jobs) if job.idempotency_key is not None]
    bound = list(jobs)
    for place, (job_id, same) in zip(keyed, await ledger.jobs.reserve_keys([jobs[at] for at in keyed]), strict=True):
        if not same:
            raise BadInput(
                f"[{place}].idempotency_key" if len(jobs) > 1 else "idempotency_key",
                "was used for another request",
                "use a new key, or send the request that it was used for",
            )
        bound[place] = jobs[place].model_copy(update={"id": job_id})
    return bound
