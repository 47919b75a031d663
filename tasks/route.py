"""Step 2 of a job's way: what is it, which models may do it, and which one now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import Job
from tasks.contract.result import Decision
from tasks.ledger import Admitted
from tasks.queue.ports import Ports, ports_of
from tasks.queue.publisher import notify_parent
from tasks.routing.candidates import find_candidates, select_able
from tasks.routing.choose import choose
from tasks.routing.classify.decision import Verdict
from tasks.workflows.ask_route import verdict_of
from tasks.workflows.prediction import predicted

__all__ = ["classify", "route"]

log = get_task_logger(__name__)


@dataclass(frozen=True, slots=True)
class Routed:
    """What is to be published: calls that were admitted (not all need be of this job), or a fan-out."""

    admitted: Sequence[Admitted] = ()
    fanout: bool = False


@shared_task(name="tasks.route", bind=True)
async def route(self: Any, job_id: str) -> None:
    """Route one job. Safe to repeat: what was decided stays decided, what is in flight stays there."""
    ports = ports_of(self.app)
    await _route_and_publish(ports, job_id)


async def _route_and_publish(ports: Ports, job_id: str) -> None:
    routed = await route_job(ports, job_id)
    if routed.admitted:
        await ports.publisher.send_calls(routed.admitted)
    if routed.fanout:
        await ports.publisher.send_fanout(job_id)


async def route_job(ports: Ports, job_id: str) -> Routed:
    known = await ports.ledger.jobs.read(job_id)
    if known is None:
        log.warning("no such job: %s", job_id)
        return Routed()
    job, state, decided = known
    if state not in {"accepted", "routed", "waiting"}:
        return Routed()
    try:
        return await _decide(ports, job, decided)
    except Unreachable:
        raise  # the sweeper has it routed again
    except PointsmanError as error:
        await ports.ledger.jobs.stop(job_id, "failed", str(error))
    except Exception as error:
        log.exception("routing of %s failed", job_id)
        await ports.ledger.jobs.stop(job_id, "failed", f"routing failed: {type(error).__name__}")
    await notify_parent(ports.publisher, job)
    return Routed()


async def _decide(ports: Ports, job: Job, decided: Decision | None) -> Routed:
    if job.kind != "single" and decided is not None:
        return Routed(fanout=True)
    verdict = await classify(job, ports)
    if verdict is None:
        return Routed()  # a model was asked: once it has answered, the job is routed again
    if job.kind == "single":
        return Routed(admitted=await _place(ports, job, verdict))
    await ports.ledger.jobs.route(job.id, _of_fanout(verdict))
    return Routed(fanout=True)


async def classify(job: Job, ports: Ports) -> Verdict | None:
    """The route of a job: the one that was named, or what the classifiers say; None while a model is asked."""
    if job.fixed_route is not None:
        return Verdict(job.fixed_route, "explicit", 1.0, "the producer named the route")
    if job.fixed_model is not None:
        # A model without a route is a plain call: no route's prompt belongs to it.
        return Verdict("", "explicit", 1.0, "the producer named the model")
    if job.kind in ports.config.flows:
        # Nothing to find out: each step's job is routed for itself.
        return Verdict(job.kind, "explicit", 1.0, "a workflow has a route of its own")
    return await verdict_of(ports, job, await ports.cascade(job.routes))


async def _place(ports: Ports, job: Job, verdict: Verdict) -> list[Admitted]:
    """Say how much each model is wanted; choosing and admitting is one step in the ledger."""
    possible = find_candidates(job, verdict.route, ports.config)
    snapshot = await ports.ledger.fleet.snapshot(select_able(possible), turn=verdict.route)
    (quality,) = await predicted(ports, job, verdict.route, [job.question])
    decision, ranking = choose(job, verdict, ports.config, snapshot, possible=possible, quality=quality)
    return await ports.ledger.place(job, decision, ranking)


def _of_fanout(verdict: Verdict) -> Decision:
    """The route of a fan-out; which models its parts go to is decided when they are cut."""
    return Decision(
        route=verdict.route,
        classifier=verdict.classifier,
        confidence=verdict.confidence,
        strategy="",
        reason=verdict.reason,
        asked=verdict.asked,
        asked_usd=verdict.asked_usd,
    )
