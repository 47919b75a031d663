"""Step 2: find a job's route, the models that may do it, and how much each is preferred now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import Job
from tasks.contract.result import Decision
from tasks.ledger import Admitted
from tasks.queue.ports import Ports
from tasks.queue.publisher import notify_parent
from tasks.routing.choose import choose, find_candidates, select_able
from tasks.routing.classify.decision import Facts, Verdict
from tasks.routing.predicting import predict_quality
from tasks.workflows.ask_route import ask_route

log = get_task_logger(__name__)


@shared_task(name="tasks.route", bind=True)
async def route(self: Any, job_id: str) -> None:
    """Route one job. Safe to repeat: a decision stays as it was made, and a call in flight stays where it is."""
    await route_job(self.app.ports(), job_id)


async def route_job(ports: Ports, job_id: str) -> None:
    """Route a job, and publish the calls that were admitted, which may be other jobs' calls, or its fan-out."""
    known = await ports.ledger.views.read(job_id)
    if known is None:
        log.warning("no such job: %s", job_id)
        return
    job, state, decided = known
    if state not in {"accepted", "routed", "waiting"}:
        return
    try:
        admitted = await _decide(ports, job, decided)
    except Unreachable:
        raise  # the sweeper publishes the route again
    except PointsmanError as error:
        await _fail(ports, job, str(error))
    except Exception as error:
        log.exception("routing of %s failed", job_id)
        await _fail(ports, job, f"routing failed: {type(error).__name__}")
    else:
        if admitted:
            await ports.publisher.send_calls(admitted)
        elif admitted is not None and job.kind != "single":
            await ports.publisher.send_fanout(job_id)


async def classify(job: Job, ports: Ports) -> Verdict | None:
    """The route that the job names, or the classifiers' verdict; None while a model is asked for it."""
    if job.fixed_route is not None:
        return Verdict(job.fixed_route, "explicit", 1.0, "the producer named the route")
    if job.fixed_model is not None:
        # A model without a route is a plain call: no route's prompt belongs to it.
        return Verdict("", "explicit", 1.0, "the producer named the model")
    if job.kind in ports.config.flows:
        # The job of each step is classified for itself.
        return Verdict(job.kind, "explicit", 1.0, "a workflow has a route of its own")
    cascade = await ports.cascade(job.routes)
    verdict = await cascade.decide(job.question, Facts(job.metadata))
    return verdict if isinstance(verdict, Verdict) else await ask_route(ports, job, cascade, verdict)


async def _decide(ports: Ports, job: Job, decided: Decision | None) -> Sequence[Admitted] | None:
    """Write the decision down; returns the calls that were admitted, none for a fan-out.

    None while a model is asked for the route: when it has answered, the job is routed again.
    """
    if job.kind != "single" and decided is not None:
        return ()
    verdict = await classify(job, ports)
    if verdict is None:
        return None
    if job.kind == "single":
        return await _place(ports, job, verdict)
    await ports.ledger.jobs.route(job.id, _fanout_decision(verdict))
    return ()


async def _place(ports: Ports, job: Job, verdict: Verdict) -> list[Admitted]:
    """Rank the candidates; the ledger chooses among them and admits the call in one step."""
    possible = find_candidates(job, verdict.route, ports.config)
    snapshot = await ports.ledger.fleet.snapshot(select_able(possible), turn=verdict.route)
    quality = None
    if ports.config.outcomes is not None:
        (quality,) = await predict_quality(ports.predictor, job, verdict.route, ports.config, [job.question])
    decision, ranking = choose(job, verdict, ports.config, snapshot, possible=possible, quality=quality)
    return await ports.ledger.place(job, decision, ranking)


def _fanout_decision(verdict: Verdict) -> Decision:
    """The route of a fan-out. The models of its parts are chosen when the parts are planned."""
    return Decision(
        route=verdict.route,
        classifier=verdict.classifier,
        confidence=verdict.confidence,
        strategy="",
        reason=verdict.reason,
        asked=verdict.asked,
        asked_usd=verdict.asked_usd,
    )


async def _fail(ports: Ports, job: Job, why: str) -> None:
    await ports.ledger.jobs.stop(job.id, "failed", why)
    await notify_parent(ports.publisher, job)
