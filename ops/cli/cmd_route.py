"""``pointsman route``: what would be decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.config.config import Config
    from tasks.contract.job import Job
    from tasks.contract.result import Decision
    from tasks.routing.classify.decision import Verdict
    from tasks.routing.snapshot import Snapshot

__all__ = ["route"]

#: Seconds that a dry run waits for Redis: it can do without.
PATIENCE = 1.0


async def route(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The text; - reads standard input.")] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the text from this file.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="NAME", help="How a model is chosen, instead of the route's way.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="What strategies pin on that keep equal keys together.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A JSON value counts as such. May be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a text would go, without submitting it.

    With Redis in reach the load of this moment counts; without, an idle fleet is assumed. No model is asked: where the
    classifier is one, that is said.

        pointsman route "Why was I charged twice?"
    """
    from ops.cli.environment import load_config
    from ops.cli.inputs import read_text, values
    from ops.cli.render import note, print_candidates, print_facts, print_json
    from tasks.accept import check
    from tasks.contract.job_parsing import parse_job
    from tasks.queue.address import state_dir
    from tasks.routing.classify.build import CACHE, build_cascade
    from tasks.routing.classify.decision import Facts, Verdict

    config = load_config()
    given = {
        "text": read_text(text, file),
        "strategy": strategy,
        "key": key,
        "metadata": values("metadata", metadata or ()),
    }
    job = parse_job({name: value for name, value in given.items() if value is not None})
    check(job, config)
    cascade, facts = build_cascade(config, cache=state_dir() / CACHE), Facts(job.metadata)
    said = cascade.consider(job.question, facts)
    asks = None if isinstance(said, Verdict) else said.asker.model
    verdict = said if isinstance(said, Verdict) else cascade.classify(job.question, facts)
    snapshot, live, remark = await _snapshot(config)
    decision, turns = _decide(job, verdict, config, snapshot, _quality(job, verdict, config))
    if as_json:
        print_json({**decision.model_dump(mode="json"), "turns": turns, "live": live, "asks": asks})
        return
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
        note(f"model {asks!r} would be asked for the route first; what is shown holds where it knows none")
    if remark:
        note(remark)


def _quality(job: Job, verdict: Verdict, config: Config) -> Mapping[str, float]:
    """What is predicted of the models, where the strategy asks for it."""
    from tasks.routing.predicting import needs_prediction

    if not needs_prediction(job, verdict.route, config):
        return {}
    from tasks.queue.address import state_dir
    from tasks.routing.quality.build import CACHE, predictor_of

    return predictor_of(config, cache=state_dir() / CACHE).predict(job.question)


def _decide(
    job: Job, verdict: Verdict, config: Config, snapshot: Snapshot, quality: Mapping[str, float]
) -> tuple[Decision, list[str]]:
    """The decision, and every model it may fall on: a dry run takes no turn, so it doesn't know whose turn it is."""
    from tasks.routing.choose import choose, pick_model

    turns: list[str] = []
    for turn in range(len(config.candidates(verdict.route)), 0, -1):
        decision, ranking = choose(job, verdict, config, replace(snapshot, turn=turn), quality=quality)
        turns.append(pick_model(ranking, snapshot))
    return decision.model_copy(update={"model": turns[-1]}), sorted(set(turns))


async def _snapshot(config: Config) -> tuple[Snapshot, bool, str]:
    """The fleet now, or one that is idle; and what the user should know about it."""
    from ops.cli.environment import open_ledger
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
