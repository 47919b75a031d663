"""``pointsman explain``: why a job went where it went, and what each of its parts took."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson
from ops.cli.cmd_status import JobId, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.contract.result import Part, Result, Tried

__all__ = ["explain"]

#: Parts that are listed unless all are asked for.
MOST_PARTS = 50
#: Letters of one of a join's details.
MOST_SHOWN = 300


async def explain(
    id: JobId,  # noqa: A002 - the word of the help
    *,
    all_parts: Annotated[bool, typer.Option("--all", help=f"List all parts, not the first {MOST_PARTS}.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say why a job went where it went.

    Classifier, confidence, strategy, candidates, and then its parts. The candidate with the lowest score was preferred;
    a load of 1 means as many calls as the model has capacity.

        pointsman explain 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
    from ops.cli.environment import open_ledger
    from ops.cli.render import note, print_json

    async with open_ledger() as ledger:
        job = await ledger.jobs.result(id, outputs=False)
        (summary,) = await ledger.jobs.summaries([id])
    if job is None:
        raise unknown(id)
    if as_json:
        print_json(job.model_dump(mode="json", exclude={"output": True, "parts": {"__all__": {"output"}}}))
        return
    _print_decision(job, above=summary.parent if summary is not None else None)
    if job.parts:
        print()
        parts = job.parts if all_parts else _telling(job.parts)
        _print_parts(parts, known=job.error)
        if len(parts) < len(job.parts):
            note(f"… and {len(job.parts) - len(parts)} more parts; --all lists them")


def _telling(parts: Sequence[Part]) -> Sequence[Part]:
    """The first, and of the others those that failed, or that the join has asked: they say how the job came out."""
    later = [part for part in parts[MOST_PARTS:] if part.role or part.state == "failed"]
    return [*parts[:MOST_PARTS], *later[:MOST_PARTS]]


def _print_decision(job: Result, *, above: str | None) -> None:
    """`above` is the part that the job is the work of."""
    from ops.cli.render import cost, models_of, print_candidates, print_facts, summary

    routing = job.routing
    facts = [("job", job.id), ("state", summary(job))]
    if above is not None:
        parent, index, _ = above.split(".")
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
                [("model", "each part is a job of its own, which finds its model")]
                if _only_jobs(job)
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


def _only_jobs(job: Result) -> bool:
    """Whether no part is a call, but for what the join asks: then its model is not chosen here."""
    return any(part.job for part in job.parts) and not any(part.model and not part.role for part in job.parts)


def _details(name: str, value: Any) -> list[tuple[str, str]]:
    """How the answer came about, as far as it can be read at a glance; ``--json`` has all of it."""
    if name == "missing" and isinstance(value, list):
        named = [(gap["index"] + 1, f" “{gap['title']}”" if gap["title"] else "", gap["reason"]) for gap in value]
        return [(name, f"{number}{title}: {reason}") for number, title, reason in named[:MOST_PARTS]]
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(name, told if len(told) <= MOST_SHOWN else f"{told[:MOST_SHOWN]} …")]


def _models(job: Result) -> list[str]:
    return sorted(
        {part.model for part in job.parts if part.model}
        | ({job.routing.model} if job.routing and job.routing.model else set())
    )


def _print_parts(parts: Sequence[Part], *, known: str | None) -> None:
    """A table of the parts, and what went wrong with each; an error that is `known` already is not told again."""
    from ops.cli.render import cost, print_facts, print_table, seconds

    titled = any(part.title for part in parts)
    head = ["part", "state", "model", "tries", "waited", "took", "tokens", "cost"]
    rows = [
        [
            str(part.index + 1),
            part.state,
            part.model or "-",
            str(part.attempts),
            seconds(part.queue_wait_s),
            seconds(part.latency_s),
            f"{part.usage.input_tokens}+{part.usage.output_tokens}",
            cost(part.cost_usd),
        ]
        for part in parts
    ]
    if titled:
        head.insert(1, "title")
        for row, part in zip(rows, parts, strict=True):
            row.insert(1, part.title)
    if any(part.role for part in parts):
        head.insert(1, "for")
        for row, part in zip(rows, parts, strict=True):
            row.insert(1, part.role)
    if any(part.job for part in parts):
        head.append("job")
        for row, part in zip(rows, parts, strict=True):
            row.append(part.job or "")
    print_table(head, rows, whole=("state", "job"), right=("part", "tries", "waited", "took", "tokens", "cost"))
    told = [
        (f"part {part.index + 1}", text)
        for part in parts
        for text in (_way(part), part.error)
        if text and text != known
    ]
    if told:
        print()
        print_facts(told)


def _way(part: Part) -> str:
    """Where it stood in vain, which models were asked and what became of it: where that was not one answer at once."""
    moved = [f"moved from {move.model}: {move.why}" for move in part.moved]
    asked = (
        [_word(tried) for tried in part.tried] if any(tried.error or tried.throttled for tried in part.tried) else []
    )
    return "; ".join(moved + asked)


def _word(tried: Tried) -> str:
    asked = tried.attempts + tried.throttled
    return f"{tried.model}: {tried.error or 'answered'}" + (f", asked {asked} times" if asked > 1 else "")
