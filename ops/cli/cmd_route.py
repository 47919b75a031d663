"""``pointsman route``: the decision for a text, without submitting a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson, Key, Metadata, Strategy
from ops.cli.environment import load_config, open_ledger
from ops.cli.inputs import read_text, values
from ops.cli.render import note, print_candidates, print_facts, print_json

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.contract.job import Job
    from tasks.contract.result import Decision
    from tasks.routing.classify.decision import Verdict
    from tasks.routing.snapshot import Snapshot

#: Seconds that a dry run waits for Redis; without an answer it assumes an idle fleet.
REDIS_TIMEOUT = 1.0


async def route(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The text; - reads standard input.")] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the text from this file.")
    ] = None,
    strategy: Strategy = None,
    key: Key = None,
    metadata: Metadata = None,
    as_json: AsJson = False,
) -> None:
    """Show where a text would go, without submitting it.

    If Redis answers, the load of this moment counts; otherwise an idle fleet is assumed. No model is asked: if the
    classifier is a model, the output says so.

        pointsman route "Why was I charged twice?"
    """
    from tasks.contract.job import parse_job
    from tasks.queue.address import state_dir
    from tasks.routing.classify.build import CACHE, build_cascade
    from tasks.routing.classify.cascade import UNASKED
    from tasks.routing.classify.decision import Facts, Verdict
    from tasks.workflows.check_job import check_job

    config = load_config()
    fields = {
        "text": read_text(text, file),
        "strategy": strategy,
        "key": key,
        "metadata": values("metadata", metadata or ()),
    }
    job = parse_job({name: value for name, value in fields.items() if value is not None})
    check_job(job, config)
    cascade, facts = build_cascade(config, cache=state_dir() / CACHE), Facts(job.metadata)
    first = await cascade.decide(job.question, facts)
    asks = None if isinstance(first, Verdict) else first.asker.model
    verdict = first if isinstance(first, Verdict) else await cascade.decide(job.question, facts, answer=UNASKED)
    assert isinstance(verdict, Verdict)
    snapshot, live, remark = await _snapshot(config)
    decision, turns = _decide(job, verdict, config, snapshot, _predict_quality(job, verdict, config))
    if as_json:
        print_json({**decision.model_dump(mode="json"), "turns": turns, "live": live, "asks": asks})
    else:
        _print(decision, turns, asks=asks, remark=remark)


def _print(decision: Decision, turns: list[str], *, asks: str | None, remark: str) -> None:
    print_facts(
        [
            ("route", decision.route),
            ("classifier", f"{decision.classifier}, confidence {decision.confidence:.2f}"),
            ("strategy", decision.strategy),
            ("model", decision.model if len(turns) == 1 and decision.model else f"{', '.join(turns)} (in turn)"),
            ("reason", decision.reason),
        ]
    )
    print()
    print_candidates(decision.candidates, chosen=turns)
    if asks is not None:
        note(f"model {asks!r} would be asked for the route first; this decision holds if its answer names none")
    if remark:
        note(remark)


def _predict_quality(job: Job, verdict: Verdict, config: Config) -> Mapping[str, float]:
    """Return the predicted quality of each model, if the strategy uses predictions."""
    from tasks.routing.predicting import needs_prediction

    if not needs_prediction(job, verdict.route, config):
        return {}
    from tasks.queue.address import state_dir
    from tasks.routing.quality.predictor import CACHE, build_predictor

    return build_predictor(config, cache=state_dir() / CACHE).predict(job.question)


def _decide(
    job: Job, verdict: Verdict, config: Config, snapshot: Snapshot, quality: Mapping[str, float]
) -> tuple[Decision, list[str]]:
    """Return the decision and every model that may be chosen: a dry run takes no turn, so it tries every turn."""
    from tasks.routing.choose import choose, pick_model

    turns: list[str] = []
    for turn in range(len(config.candidates(verdict.route)), 0, -1):
        decision, ranking = choose(job, verdict, config, replace(snapshot, turn=turn), quality=quality)
        turns.append(pick_model(ranking, snapshot))
    return decision.model_copy(update={"model": turns[-1]}), sorted(set(turns))


async def _snapshot(config: Config) -> tuple[Snapshot, bool, str]:
    """Return the fleet of this moment or an idle one, whether it is the former, and a remark for the user."""
    from tasks.contract.errors import PointsmanError
    from tasks.routing.snapshot import ModelLoad, Snapshot

    idle = Snapshot(1, {name: ModelLoad(model.capacity) for name, model in config.models.items()})
    try:
        async with open_ledger(tuple(config.models), timeout=REDIS_TIMEOUT) as ledger:
            snapshot = await ledger.fleet.snapshot()
    except PointsmanError as error:
        return idle, False, f"an idle fleet is assumed: {error}"
    if not any(load.capacity for load in snapshot.models.values()):
        return idle, False, "an idle fleet is assumed: no worker has started yet"
    return snapshot, True, ""
