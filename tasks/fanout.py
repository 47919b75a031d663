"""Step 3, for sections and votes alone: cut the job into parts and send them as a Celery chord, wave by wave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import shared_task
from celery.utils.log import get_task_logger

from tasks.calling.tokens import estimate
from tasks.classify.decision import Verdict
from tasks.errors import BadInput, PointsmanError, Unreachable
from tasks.job import Decision, Job
from tasks.ledger import WAVE, PartPlan
from tasks.ports import Ports, ports_of
from tasks.prediction import predicted
from tasks.routing.choose import spread
from tasks.split import Section, split

__all__ = ["cut", "fanout"]

log = get_task_logger(__name__)


@shared_task(name="tasks.fanout", bind=True)
async def fanout(self: Any, job_id: str, wave: int = 0) -> None:
    """Send the parts of one wave. Safe to repeat: parts are planned once, and a part's message is always the same."""
    ports = ports_of(self.app)
    await _plan_and_publish(ports, job_id, wave)


async def _plan_and_publish(ports: Ports, job_id: str, wave: int) -> None:
    models = await (plan_job(ports, job_id) if wave == 0 else ports.ledger.send_wave(job_id, wave))
    if models:
        await ports.publisher.chord(job_id, wave, models)


async def plan_job(ports: Ports, job_id: str) -> Sequence[str]:
    """Cut the job and choose a model for each part; returns the models of the first wave, none if that was done."""
    known = await ports.ledger.jobs.read(job_id)
    if known is None:
        return ()
    job, state, decided = known
    if state != "routed" or decided is None:
        return ()
    try:
        parts, decision = await _plan(ports, job, decided)
        word = await ports.ledger.plan(job_id, decision.model_dump_json(), parts)
        # Planned before: somebody published the chord or died on the way. The sweeper publishes what is missing.
        return [part.model for part in parts[:WAVE]] if word == "ok" else ()
    except Unreachable:
        raise  # the sweeper has it sent again
    except PointsmanError as error:
        await ports.ledger.jobs.stop(job_id, "failed", str(error))
    except Exception as error:
        log.exception("fan-out of %s failed", job_id)
        await ports.ledger.jobs.stop(job_id, "failed", f"the fan-out failed: {type(error).__name__}")
    return ()


async def _plan(ports: Ports, job: Job, decided: Decision) -> tuple[list[PartPlan], Decision]:
    sections = cut(job, most=ports.config.limits.parts)
    snapshot = await ports.ledger.fleet.snapshot(turn=decided.route)
    verdict = Verdict(
        decided.route, decided.classifier, decided.confidence, decided.reason, decided.asked, decided.asked_usd
    )
    # The longest by its letters: what has most of them has most tokens, or nearly.
    longest = estimate(max((section.text for section in sections), key=len) if job.kind == "sections" else job.question)
    texts = [section.text for section in sections] if job.kind == "sections" else None
    qualities = await predicted(ports, job, decided.route, texts or [job.question])
    decision, models = spread(
        job,
        verdict,
        ports.config,
        snapshot,
        parts=len(sections),
        longest=longest,
        texts=texts,
        qualities=qualities,
    )
    if len(set(models)) == 1:
        decision = decision.model_copy(update={"model": models[0]})
    parts = [
        # A vote reads the job's own input: it is kept once, not n times.
        PartPlan(model, section.title, section.text if job.kind == "sections" else None)
        for section, model in zip(sections, models, strict=True)
    ]
    return parts, decision


def cut(job: Job, *, most: int) -> list[Section]:
    """The parts of a job: its sections, or n times the whole for a vote.

    Raises:
        BadInput: if the text has no section of that kind, or more than `most`.
    """
    if job.kind == "vote":
        return [Section(index, f"vote {index + 1}", "") for index in range(job.n or 1)]
    if job.items is not None:
        sections = [Section(index, f"item {index + 1}", item) for index, item in enumerate(job.items)]
    else:
        sections = [section for section in split(job.text or "", job.split or "") if section.text.strip()]
    if len(sections) > most:
        raise BadInput(
            "items" if job.items is not None else "text",
            f"makes {len(sections)} sections, the limit is {most}",
            "cut it coarser, or raise limits.parts in the configuration",
        )
    return sections
