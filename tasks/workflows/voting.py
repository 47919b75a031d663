"""A vote while it runs: the ballot and the weight of an answer, early stop, and the size of the next wave."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.config.config import Config
from tasks.contract.job import Job
from tasks.ledger import WAVE, Progress, digest
from tasks.parallel.early_stop import StopRule, is_decided, next_wave, scale_of, stop_rule_of
from tasks.parallel.joins import DEFAULT_JOINS, JOINS
from tasks.parallel.votes.answer_form import Form
from tasks.parallel.votes.weights import weights_of
from tasks.queue.ports import Ports
from tasks.routing.traits import find_traits


def name_of_join(job: Job) -> str:
    """The name of a job's join."""
    return job.join or DEFAULT_JOINS.get(job.kind, "concatenate")


def find_answer_form(job: Job, *, kept: str) -> Form:
    """The form of an answer of a vote, by the options of its join; None where the vote declares none.

    None as well beside a `response_schema`, and for the rest of an answer that was cut and of which a text is `kept`.
    """
    if job.response_schema is not None or kept:
        return None
    name = name_of_join(job)
    traits = JOINS.traits(name)
    return traits.form(JOINS.options(name, job.join_options)) if traits.form is not None else None


def find_weights(config: Config, route: str) -> Mapping[str, float]:
    """The weight of each model's vote, from its accuracy on the route where that was measured or is configured."""

    def weigh() -> Mapping[str, float]:
        scores = {name: traits.scores for name, traits in find_traits(config, route, tuple(config.models)).items()}
        return weights_of({name: score["accuracy"] / 100 for name, score in scores.items() if "accuracy" in score})

    return config.derived(f"vote weights {route}", weigh)


def find_stop_rule(config: Config, job: Job, route: str) -> StopRule | None:
    """When this job may end before all of its parts have; None where it needs every part."""
    if job.kind != "vote":
        return None
    name = name_of_join(job)
    return stop_rule_of(
        join=name,
        options=JOINS.options(name, job.join_options),
        n=job.n or 1,
        early_stop=job.early_stop,
        confidence=job.confidence,
        weights=find_weights(config, route),
    )


def first_wave_size(job: Job, rule: StopRule) -> int:
    """The size of a vote's first wave: for a job that prefers cost, as few votes as can decide it."""
    if job.prefer != "cost":
        return WAVE
    return max(next_wave(rule, {}, job.n or 1), job.quorum or 1)


async def wave_size(ports: Ports, job: Job) -> int:
    """The size of a job's next wave."""
    if job.kind in ports.config.flows:
        return 1  # one step after the other
    rule = await _read_stop_rule(ports, job)
    if rule is None or job.prefer != "cost":
        return WAVE
    progress = await ports.ledger.views.progress(job.id)
    return max(1, next_wave(rule, await _tally(ports, job, rule), progress.n - progress.sent))


async def is_decided_early(ports: Ports, job: Job, progress: Progress) -> bool:
    """Whether the votes that have ended decide the job though others were never sent; none may be in flight."""
    rule = await _read_stop_rule(ports, job)
    if rule is None:
        return False
    if job.quorum is not None:
        ended = await ports.ledger.views.outcomes(job.id, progress.base, progress.sent - progress.base)
        if sum(end.output is not None for end in ended) < job.quorum:
            return False
    return is_decided(rule, await _tally(ports, job, rule), progress.n - progress.sent, in_order=True)


def read_ballot(
    config: Config, job: Job, route: str, model: str, output: str, *, truncated: bool = False
) -> tuple[str, float]:
    """The digest of the ballot that an output casts, and its weight; "" where it abstains, or casts no ballot."""
    if job.kind != "vote":
        return "", 1.0
    name = name_of_join(job)
    options = JOINS.options(name, job.join_options)
    traits = JOINS.traits(name)
    ballot = traits.cut_ballot if truncated else traits.ballot
    cast = ballot(output, options) if ballot is not None else ""
    if not cast:
        return "", 1.0
    return digest(cast), scale_of(name, options, find_weights(config, route)).of(model)


async def _read_stop_rule(ports: Ports, job: Job) -> StopRule | None:
    if job.kind != "vote":
        return None
    (route,) = await ports.ledger.views.routes([job.id])
    return find_stop_rule(ports.config, job, route)


async def _tally(ports: Ports, job: Job, rule: StopRule) -> dict[str, float]:
    tally = await ports.ledger.views.tally(job.id)
    if rule.flag is not None and (flags := tally.pop(digest(rule.flag), None)) is not None:
        tally[rule.flag] = flags
    return tally
