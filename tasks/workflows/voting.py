"""A vote while it goes on: what a take's ballot is and weighs, when enough are in, and how many to ask for next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.ledger import WAVE, digest
from tasks.parallel.early_stop import StopRule, is_decided, next_wave, scale_of, stop_rule_of
from tasks.parallel.joins import DEFAULT_JOINS, join_named, join_options, join_traits
from tasks.parallel.votes.weights import weights_of
from tasks.routing.traits import find_traits as model_traits

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.contract.job import Job
    from tasks.ledger import Progress
    from tasks.queue.ports import Ports

__all__ = ["ballot_for", "decided_early", "first_wave", "join_of", "stopping_for", "wave_size", "weights_for"]


def join_of(job: Job) -> str:
    """The name of a job's join."""
    return job.join or DEFAULT_JOINS.get(job.kind, "concatenate")


def weights_for(config: Config, route: str) -> Mapping[str, float]:
    """What the vote of each model weighs by its accuracy on the route, as far as it was measured or is configured."""
    return config.derived(f"vote weights {route}", lambda: _weights(config, route))


def _weights(config: Config, route: str) -> Mapping[str, float]:
    accuracies = {
        name: traits.scores["accuracy"] / 100
        for name, traits in model_traits(config, route, tuple(config.models)).items()
        if "accuracy" in traits.scores
    }
    return weights_of(accuracies)


def stopping_for(config: Config, job: Job, route: str) -> StopRule | None:
    """When this job may end before all of its parts have; None where it needs them all."""
    if job.kind != "vote":
        return None
    name = join_of(job)
    return stop_rule_of(
        join=name,
        options=join_options(name, job.join_options),
        n=job.n or 1,
        early_stop=job.early_stop,
        confidence=job.confidence,
        weights=weights_for(config, route),
    )


def first_wave(job: Job, stopping: StopRule) -> int:
    """How many votes are asked for at first: where calls shall be saved, as few as can decide it."""
    if job.prefer != "cost":
        return WAVE
    return max(next_wave(stopping, {}, job.n or 1), job.quorum or 1)


async def wave_size(ports: Ports, job: Job) -> int:
    """How many parts the next wave has."""
    if job.kind in ports.config.flows:
        return 1  # one step after the other
    stopping = await _stopping_of_late(ports, job)
    if stopping is None or job.prefer != "cost":
        return WAVE
    progress = await ports.ledger.jobs.progress(job.id)
    return max(1, next_wave(stopping, await _tally(ports, job, stopping), progress.n - progress.sent))


async def decided_early(ports: Ports, job: Job, progress: Progress) -> bool:
    """Whether the votes that are in decide it though others were never asked for; none may be under way."""
    stopping = await _stopping_of_late(ports, job)
    if stopping is None:
        return False
    if job.quorum is not None:
        ended = await ports.ledger.jobs.outcomes(job.id, progress.base, progress.sent - progress.base)
        if sum(end.output is not None for end in ended) < job.quorum:
            return False
    return is_decided(stopping, await _tally(ports, job, stopping), progress.n - progress.sent, in_order=True)


def ballot_for(config: Config, job: Job, route: str, model: str, output: str) -> tuple[str, float]:
    """The ballot that an output casts, by its digest, and what it weighs; "" where it abstains, or nobody counts."""
    if job.kind != "vote":
        return "", 1.0
    name = join_of(job)
    options = join_options(name, job.join_options)
    ballot = join_traits(join_named(name)).ballot
    cast = ballot(output, options) if ballot is not None else ""
    if not cast:
        return "", 1.0
    return digest(cast), scale_of(name, options, weights_for(config, route)).of(model)


async def _stopping_of_late(ports: Ports, job: Job) -> StopRule | None:
    if job.kind != "vote":
        return None
    (route,) = await ports.ledger.jobs.routes([job.id])
    return stopping_for(ports.config, job, route)


async def _tally(ports: Ports, job: Job, stopping: StopRule) -> dict[str, float]:
    tally = await ports.ledger.jobs.tally(job.id)
    if stopping.flag is not None and (flags := tally.pop(digest(stopping.flag), None)) is not None:
        tally[stopping.flag] = flags
    return tally
