"""``pointsman explain``: the reasons for a job's route and model, and the figures of its parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson, JobId
from ops.cli.environment import open_ledger
from ops.cli.exits import unknown_job
from ops.cli.render import (
    cost,
    models_of,
    note,
    print_candidates,
    print_facts,
    print_json,
    print_table,
    seconds,
    summary,
)

if TYPE_CHECKING:
    from tasks.contract.result import Part, Result, Tried

#: Parts that are listed without --all.
MOST_PARTS = 50
#: Characters that are shown of one detail of a join.
MOST_SHOWN = 300


async def explain(
    id: JobId,  # noqa: A002 - the word of the help
    *,
    all_parts: Annotated[bool, typer.Option("--all", help=f"List all parts, not the first {MOST_PARTS}.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain why a job went to its model.

    Classifier, confidence, strategy, candidates, and then its parts. The candidate with the lowest score was preferred;
    a load of 1 means as many calls as the model has capacity.

        pointsman explain 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
    async with open_ledger() as ledger:
        job = await ledger.views.result(id, outputs=False)
        (summary,) = await ledger.views.summaries([id])
    if job is None:
        raise unknown_job(id)
    if as_json:
        print_json(job.model_dump(mode="json", exclude={"output": True, "parts": {"__all__": {"output"}}}))
        return
    _print_decision(job, parent_part=summary.parent if summary is not None else None)
    if job.parts:
        print()
        parts = job.parts if all_parts else _worth_listing(job.parts)
        _print_parts(parts, known=job.error)
        if len(parts) < len(job.parts):
            note(f"… and {len(job.parts) - len(parts)} more parts; --all lists them")


def _worth_listing(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the first parts, and the later ones that failed or that answer a question of the join."""
    later = [part for part in parts[MOST_PARTS:] if part.role or part.state == "failed"]
    return [*parts[:MOST_PARTS], *later[:MOST_PARTS]]


def _print_decision(job: Result, *, parent_part: str | None) -> None:
    """`parent_part` is the part of another job whose work this job is."""
    routing = job.routing
    facts = [("job", job.id), ("state", summary(job))]
    if parent_part is not None:
        parent, index, _ = parent_part.split(".")
        facts.append(("part of", f"{parent}, part {int(index) + 1}"))
    if job.error:
        facts.append(("error", job.error))
    if routing is None:
        print_facts([*facts, ("route", "not routed yet")])
        return
    print_facts(
        [
            *facts,
            ("route", routing.route or "none: the model was named"),
            ("classifier", f"{routing.classifier}, confidence {routing.confidence:.2f}"),
            *(
                [("model", "each part is a job of its own, with its own model")]
                if _has_only_child_jobs(job)
                else [
                    ("strategy", routing.strategy or "-"),
                    ("model", routing.model or models_of(job) or "not chosen yet"),
                ]
            ),
            ("reason", routing.reason),
            *([("asked", f"{routing.asked}, for {cost(routing.asked_usd)}")] if routing.asked else []),
            *(fact for name, value in job.details.items() for fact in _details(name, value)),
        ]
    )
    if routing.candidates:
        print()
        failed = {tried.model: tried.error for part in job.parts for tried in part.tried if tried.error}
        print_candidates(routing.candidates, chosen=_models(job), failed=failed if len(job.parts) == 1 else {})


def _has_only_child_jobs(job: Result) -> bool:
    """Whether no part is a call, except for questions of the join: then no model is chosen for this job itself."""
    return any(part.job for part in job.parts) and not any(part.model and not part.role for part in job.parts)


def _details(name: str, value: Any) -> list[tuple[str, str]]:
    """Return one of the join's details in short; ``--json`` prints all of it."""
    if name in {"missing", "truncated"} and isinstance(value, list):
        named = [(gap["index"] + 1, f" “{gap['title']}”" if gap["title"] else "", gap.get("reason")) for gap in value]
        return [(name, f"{number}{title}: {reason or 'its end'}") for number, title, reason in named[:MOST_PARTS]]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(name, text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} …")]


def _models(job: Result) -> list[str]:
    return sorted(
        {part.model for part in job.parts if part.model}
        | ({job.routing.model} if job.routing and job.routing.model else set())
    )


def _print_parts(parts: Sequence[Part], *, known: str | None) -> None:
    """Print a table of the parts, and their errors. An error that is `known`, because it is the job's, is left out."""
    columns: dict[str, list[str]] = {
        "part": [str(part.index + 1) for part in parts],
        "for": [part.role for part in parts],
        "title": [part.title for part in parts],
        "state": [part.state for part in parts],
        "model": [part.model or "-" for part in parts],
        "tries": [str(part.attempts) for part in parts],
        "waited": [seconds(part.queue_wait_s) for part in parts],
        "took": [seconds(part.latency_s) for part in parts],
        "tokens": [f"{part.usage.input_tokens}+{part.usage.output_tokens}" for part in parts],
        "cost": [cost(part.cost_usd) for part in parts],
        "job": [part.job or "" for part in parts],
    }
    head = [name for name, cells in columns.items() if name not in {"for", "title", "job"} or any(cells)]
    rows = zip(*(columns[name] for name in head), strict=True)
    print_table(head, rows, whole=("state", "job"), right=("part", "tries", "waited", "took", "tokens", "cost"))
    remarks = [
        (f"part {part.index + 1}", text)
        for part in parts
        for text in (_history(part), "its answer was cut at a bound of tokens" if part.truncated else None, part.error)
        if text and text != known
    ]
    if remarks:
        print()
        print_facts(remarks)


def _history(part: Part) -> str:
    """Return the moves and attempts of a part; nothing if the first attempt succeeded."""
    moved = [f"moved from {move.model}: {move.why}" for move in part.moved]
    asked = (
        [_attempts(tried) for tried in part.tried]
        if any(tried.error or tried.throttled for tried in part.tried)
        else []
    )
    return "; ".join(moved + asked)


def _attempts(tried: Tried) -> str:
    asked = tried.attempts + tried.throttled
    return f"{tried.model}: {tried.error or 'answered'}" + (f", asked {asked} times" if asked > 1 else "")
