"""How many parts a job may have, with all the jobs within it. Pure.

A thousand sections with a vote of a thousand each are a million calls, and jobs lie five deep. So the parts are counted
over the whole tree: what is sure to come before anything is asked, and the rest by shares. Each job within a job gets
an equal share of what is left, which it can't pass; no counter is needed that a crash could leave wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import BadInput
from tasks.contract.job import Item
from tasks.parallel.nesting import DEEPEST

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.contract.job import Job

__all__ = ["allowed", "check_bound", "check_planned", "least", "part_share"]


def allowed(job: Job, config: Config) -> int:
    """Parts that the job may have, with those of the jobs within it: all, or the share of its parent's."""
    most = config.limits.nested_parts
    return most if job.parent is None or job.parent.parts is None else min(most, job.parent.parts)


def check_bound(job: Job, config: Config) -> None:
    """See that what is known before anything is cut keeps the limit.

    Raises:
        BadInput: if it doesn't.
    """
    if job.kind == "vote":
        field = "n"
    elif job.items is not None:
        field = "items"
    else:
        field = "kind" if job.kind in config.flows else "each"
    _within(job, least(_said(job), config), config, field)


def check_planned(job: Job, children: Sequence[Mapping[str, Any] | None], config: Config) -> None:
    """The same, once it is known how many parts there are: of each the fields of its job, None where it is a call.

    Raises:
        BadInput: if they and the jobs that they are have too many.
    """
    total = sum(1 + (0 if child is None else least(child, config)) for child in children)
    _within(job, total, config, "text" if job.each is None else "each")


def part_share(job: Job, parts: int, config: Config) -> int:
    """Parts that each of the jobs within `job` may have, which has so many `parts` itself.

    The steps of a workflow that are single calls need one each: the others share what is left.
    """
    left = allowed(job, config) - parts
    workflow = config.flows.get(job.kind)
    if workflow is not None:
        parts = sum(step.job.get("kind", "single") != "single" for step in workflow.steps)
    return max(1, left // max(1, parts))


def least(fields: Mapping[str, Any], config: Config, *, depth: int = 0) -> int:
    """Parts that a job of these fields has at least, with those of the jobs within it.

    A text counts as one section: how many it has, nobody knows before it is cut. What lies deeper than jobs may is
    refused elsewhere, as is a workflow that leads back to itself.
    """
    if depth > DEEPEST:
        return 1
    kind = fields.get("kind", "single")
    if kind == "vote":
        return int(fields.get("n") or 1)
    if (workflow := config.flows.get(str(kind))) is not None:
        return sum(1 + least(step.job, config, depth=depth + 1) for step in workflow.steps)
    if kind != "sections":
        return 1
    each = fields.get("each")
    inner = None if each is None else least(each, config, depth=depth + 1)
    return sum(1 + (inner if inner is not None else own) for own in _items(fields.get("items")))


def _items(items: Iterable[Any] | None) -> Iterable[int]:
    """Of each item the parts of its own job: none where it is a call."""
    if items is None:
        return (0,)
    return (int(isinstance(item, Item) and (item.route is not None or item.model is not None)) for item in items)


def _said(job: Job) -> Mapping[str, Any]:
    return {"kind": job.kind, "n": job.n, "items": job.items, "each": job.each}


def _within(job: Job, total: int, config: Config, field: str) -> None:
    most = allowed(job, config)
    if total > most:
        word = "the limit" if job.parent is None else "its share of the limit"
        raise BadInput(
            field,
            f"makes at least {total:,} parts, with those of the jobs within the job; {word} is {most:,}",
            "take fewer votes or coarser sections, or raise limits.nested_parts in the configuration",
        )
