"""Step 1, called by every producer: write checked jobs into the ledger, and publish them to the router.

Once `accept` has returned an id, the job is in the ledger and will end, whatever crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.config.config import Config
from tasks.contract.errors import BadInput, Unreachable
from tasks.contract.job import Job
from tasks.ledger import Ledger
from tasks.queue.publisher import Publisher

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
        BadInput: for an idempotency key that was used for another request: no job was accepted then. Or for an id that
            is another job's: the other jobs of the request were accepted.
        Unreachable: if Redis does not answer. The request may be sent again.
    """
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
