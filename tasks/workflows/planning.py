"""Plan the parts of a job: give each its model, write them once, and publish them wave by wave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.result import Decision
from tasks.contract.tokens import estimate
from tasks.ledger import WAVE, PartStatus, StagePlan
from tasks.parallel.cut import cut_job, plan_question
from tasks.parallel.part_limits import check_copies, check_planned_parts
from tasks.parallel.part_spec import PartSpec, child_id
from tasks.queue.ports import Ports
from tasks.routing.choose import find_candidates, select_able, spread_parts
from tasks.routing.classify.decision import Verdict
from tasks.routing.predicting import predict_quality
from tasks.workflows.child_jobs import create_child_jobs
from tasks.workflows.voting import find_stop_rule, first_wave_size

#: Tokens of a context window that is not configured: most models have more.
COMMON_WINDOW = 16_000
#: The share of a window that a question's text may fill: the rest is for the prompt, the answer, and the error of the
#: estimate.
QUESTION_SHARE = 0.6

#: The number of a wave that was just sent, and its parts.
Planned = tuple[int, list[PartStatus]]


async def plan_first(ports: Ports, job: Job, decided: Decision) -> Planned | None:
    """Plan a job's first stage; None if that was done before, or the job has ended.

    Raises:
        BadInput: if the input can't be cut, or no model can take it.
    """
    workflow = ports.config.flows.get(job.kind)
    if workflow is not None:
        steps = [PartSpec(title=step.name, job=child_id(job.id, index)) for index, step in enumerate(workflow.steps)]
        return await _write(ports, job, decided, StagePlan(steps, wave=1))
    if job.split == "plan":
        return await plan_questions(ports, job, decided, [plan_question(job.split_options)], role="plan", first=0)
    # To cut some megabytes takes a while.
    specs = await asyncio.to_thread(cut_job, job, most=ports.config.limits.parts)
    return await plan_parts(ports, job, decided, specs)


async def plan_parts(
    ports: Ports, job: Job, decided: Decision, specs: Sequence[PartSpec], *, first: int = 0
) -> Planned | None:
    """Plan the sections or votes of a job, from index `first` on.

    Raises:
        BadInput: if these are too many, child jobs included, or repeat too much, or no model can take them.
    """
    check_planned_parts(job, [spec.child for spec in specs], ports.config)
    check_copies(job, specs, ports.config)
    parts, decision = await _assign_models(ports, job, decided, specs)
    parts = [
        part if part.child is None else replace(part, job=child_id(job.id, index))
        for index, part in enumerate(parts, start=first)
    ]
    stopping = find_stop_rule(ports.config, job, decided.route)
    wave = first_wave_size(job, stopping) if stopping is not None else WAVE
    return await _write(ports, job, decision, StagePlan(parts, first, wave=wave, stopping=stopping))


async def plan_questions(
    ports: Ports, job: Job, decided: Decision, asked: Sequence[PartSpec], *, role: str, first: int
) -> Planned | None:
    """Plan the questions to models about a job, of its join or of its split, for the models of `join_model`.

    Raises:
        BadInput: if none of these models can take them.
    """
    asker = _asked_job(job)
    if asker is not job:
        decided = decided.model_copy(update={"route": asker.fixed_route or ""})
    parts, decision = await _assign_models(ports, asker, decided, asked)
    # The job's decision is about its sections or votes. Questions to other models, and those of a job whose parts are
    # child jobs, carry their own candidates.
    own = asker is not job or (first > 0 and not decided.candidates)
    if own:
        among = select_able(decision.candidates)
        parts = [replace(part, candidates=among) for part in parts]
    return await _write(ports, job, None if own or first > 0 else decision, StagePlan(parts, first, role))


async def publish_wave(ports: Ports, job: Job, wave: int, parts: Sequence[PartStatus]) -> None:
    """Publish the calls of a wave that was just sent, and create its child jobs.

    After a crash the sweeper publishes each call that is missing.
    """
    calls = [(part.index, part.model) for part in parts if part.state == "queued"]
    children = [part for part in parts if part.job and part.state == "running"]
    if not calls and not children:
        # Every part has failed before it began, so no chord will start the join.
        await ports.publisher.send_join(job.id, wave=wave)
        return
    await ports.publisher.send_chord(job.id, wave, calls, size=len(calls) + len(children))
    await create_child_jobs(ports, job, wave, children)


def find_window(job: Job, decided: Decision, ports: Ports) -> int:
    """Tokens that the text of one question may have: what the smallest of the asked models takes."""
    asker = _asked_job(job)
    route = decided.route if asker is job else asker.fixed_route or ""
    models = [ports.config.models[item.model] for item in find_candidates(asker, route, ports.config, longest=0)]
    return int(min(model.context_window or COMMON_WINDOW for model in models) * QUESTION_SHARE)


def _asked_job(job: Job) -> Job:
    """The job routed to `join_model`, or the job itself if that is "auto"."""
    if job.join_model == "auto":
        return job
    return job.model_copy(
        update={"model": job.join_model, "route": None, "routes": None, "strategy": None, "priority_metric": None}
    )


async def _assign_models(
    ports: Ports, job: Job, decided: Decision, specs: Sequence[PartSpec]
) -> tuple[list[PartSpec], Decision]:
    """Each part with its model, and the decision on the models. Child jobs are routed for themselves."""
    parts = list(specs)
    calls = [place for place, spec in enumerate(specs) if spec.child is None]
    if not calls:
        return parts, decided
    calls, errors, longest = _select_fitting(ports, job, decided.route, [(place, parts[place]) for place in calls])
    for place, error in errors.items():
        parts[place] = replace(parts[place], error=error)
    named = [place for place in calls if parts[place].candidates]
    for place in named:
        parts[place] = replace(parts[place], model=parts[place].candidates[0])
    free = [place for place in calls if not parts[place].candidates]
    if not free:
        return parts, decided
    texts = [parts[place].text or job.question for place in free]
    shared = all(parts[place].text is None for place in free)
    snapshot = await ports.ledger.fleet.snapshot(turn=decided.route)
    verdict = Verdict(
        decided.route, decided.classifier, decided.confidence, decided.reason, decided.asked, decided.asked_usd
    )
    described = [job.question] if shared else texts
    qualities = await predict_quality(ports.predictor, job, decided.route, ports.config, described)
    decision, models = spread_parts(
        job,
        verdict,
        ports.config,
        snapshot,
        parts=len(free),
        longest=longest,
        texts=None if shared else texts,
        qualities=qualities,
    )
    if len(set(models)) == 1:
        decision = decision.model_copy(update={"model": models[0]})
    for place, model in zip(free, models, strict=True):
        parts[place] = replace(parts[place], model=model)
    return parts, decision


def _select_fitting(
    ports: Ports, job: Job, route: str, calls: Sequence[tuple[int, PartSpec]]
) -> tuple[list[int], dict[int, str], int]:
    """The parts that a model can take, the errors of the others where the policy allows them, and the longest's tokens.

    The longest part is found by its characters, which agree with its tokens well enough: to estimate the tokens of all
    parts takes a while, and is done only where some parts are too long.
    """
    whole = estimate(job.question) if any(spec.text is None for _, spec in calls) else 0
    longest = _size(max((spec for _, spec in calls), key=lambda spec: _letters(job, spec)), whole)
    try:
        select_able(find_candidates(job, route, ports.config, longest=longest))
    except BadInput:
        if job.policy == "fail":
            raise
    else:
        return [place for place, _ in calls], {}, longest
    sizes = {place: _size(spec, whole) for place, spec in calls}
    errors: dict[int, str] = {}
    for size in sorted(set(sizes.values()), reverse=True):
        try:
            select_able(find_candidates(job, route, ports.config, longest=size))
            break
        except BadInput as error:
            errors |= {place: error.problem for place, own in sizes.items() if own == size}
    fitting = [place for place in sizes if place not in errors]
    return fitting, errors, max((sizes[place] for place in fitting), default=0)


def _size(spec: PartSpec, whole: int) -> int:
    """Tokens of a part's input; `whole` are those of the job's own input, for a part without a text."""
    task = estimate(spec.task) if spec.task else 0
    return task + (whole if spec.text is None else estimate(spec.text))


def _letters(job: Job, spec: PartSpec) -> int:
    return len(spec.task or "") + len(job.question if spec.text is None else spec.text)


async def _write(ports: Ports, job: Job, decision: Decision | None, stage: StagePlan) -> Planned | None:
    _, wave, parts = await ports.ledger.plan(job.id, "" if decision is None else decision.model_dump_json(), stage)
    return None if wave is None else (wave, parts)
