"""``pointsman route``: what would be decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.command import AsJson

if TYPE_CHECKING:
    from tasks.classify.decision import Verdict
    from tasks.config import Config
    from tasks.job import Decision, Job
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

    With Redis in reach the load of this moment counts; without, an idle fleet is assumed.

        pointsman route "Why was I charged twice?"
    """
    from ops.cli.context import load_config
    from ops.cli.explain import print_candidates, print_facts
    from ops.cli.inputs import read_text, values
    from ops.cli.render import note, print_json
    from tasks.accept import check
    from tasks.classify.build import build_cascade
    from tasks.job import parse_job

    config = load_config()
    given = {
        "text": read_text(text, file),
        "strategy": strategy,
        "key": key,
        "metadata": values("metadata", metadata or ()),
    }
    job = parse_job({name: value for name, value in given.items() if value is not None})
    check(job, config)
    verdict = build_cascade(config).classify(job.question)
    snapshot, live, remark = await _snapshot(config)
    decision, turns = _decide(job, verdict, config, snapshot)
    if as_json:
        print_json({**decision.model_dump(mode="json"), "turns": turns, "live": live})
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
    if remark:
        note(remark)


def _decide(job: Job, verdict: Verdict, config: Config, snapshot: Snapshot) -> tuple[Decision, list[str]]:
    """The decision, and every model it may fall on: a dry run takes no turn, so it doesn't know whose turn it is."""
    from tasks.routing.choose import choose

    turns: list[str] = []
    for turn in range(len(config.candidates(verdict.route)), 0, -1):
        decision, ranking = choose(job, verdict, config, replace(snapshot, turn=turn))
        best = ranking.preferences[0]
        if not ranking.bound:
            best = min(ranking.preferences, key=lambda wish: wish.score(snapshot.models[wish.model].load))
        turns.append(best.model)
    return decision.model_copy(update={"model": turns[-1]}), sorted(set(turns))


async def _snapshot(config: Config) -> tuple[Snapshot, bool, str]:
    """The fleet now, or one that is idle; and what the user should know about it."""
    from ops.cli.context import open_ledger
    from tasks.errors import PointsmanError
    from tasks.routing.snapshot import ModelLoad, Snapshot

    idle = Snapshot(1, {name: ModelLoad(model.capacity) for name, model in config.models.items()})
    try:
        async with open_ledger(tuple(config.models), patience=PATIENCE) as ledger:
            snapshot = await ledger.fleet.snapshot()
    except PointsmanError as error:
        return idle, False, f"an idle fleet is assumed: {error}"
    if not any(load.capacity for load in snapshot.models.values()):
        return idle, False, "an idle fleet is assumed: no worker has started yet"
    return snapshot, True, ""
