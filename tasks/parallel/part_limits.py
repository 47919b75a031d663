"""The limits on the parts of a job: how many they are, and how many bytes they repeat. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import BadInput
from tasks.contract.job import Item
from tasks.parallel.nesting import DEEPEST

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.contract.job import Job
    from tasks.parallel.part_spec import PartSpec

__all__ = [
    "MOST_COPIED",
    "allowed_parts",
    "check_copies",
    "check_part_count",
    "check_planned_parts",
    "least_parts",
    "part_share",
]


def allowed_parts(job: Job, config: Config) -> int:
    """Parts that the job may have, with those of the jobs within it: all, or the share of its parent's."""
    most = config.limits.nested_parts
    return most if job.parent is None or job.parent.parts is None else min(most, job.parent.parts)


def check_part_count(job: Job, config: Config) -> None:
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
    _within(job, least_parts(_said(job), config), config, field)


def check_planned_parts(job: Job, children: Sequence[Mapping[str, Any] | None], config: Config) -> None:
    """The same, once it is known how many parts there are: of each the fields of its job, None where it is a call.

    Raises:
        BadInput: if they and the jobs that they are have too many.
    """
    total = sum(1 + (0 if child is None else least_parts(child, config)) for child in children)
    _within(job, total, config, "text" if job.each is None else "each")


def part_share(job: Job, parts: int, config: Config) -> int:
    """Parts that each of the jobs within `job` may have, which has so many `parts` itself.

    The steps of a workflow that are single calls need one each: the others share what is left.
    """
    left = allowed_parts(job, config) - parts
    workflow = config.flows.get(job.kind)
    if workflow is not None:
        parts = sum(step.job.get("kind", "single") != "single" for step in workflow.steps)
    return max(1, left // max(1, parts))


def least_parts(fields: Mapping[str, Any], config: Config, *, depth: int = 0) -> int:
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
        return sum(1 + least_parts(step.job, config, depth=depth + 1) for step in workflow.steps)
    if kind != "sections":
        return 1
    each = fields.get("each")
    inner = None if each is None else least_parts(each, config, depth=depth + 1)
    return sum(1 + (inner if inner is not None else own) for own in _items(fields.get("items")))


def _items(items: Iterable[Any] | None) -> Iterable[int]:
    """Of each item the parts of its own job: none where it is a call."""
    if items is None:
        return (0,)
    return (int(isinstance(item, Item) and (item.route is not None or item.model is not None)) for item in items)


def _said(job: Job) -> Mapping[str, Any]:
    return {"kind": job.kind, "n": job.n, "items": job.items, "each": job.each}


def _within(job: Job, total: int, config: Config, field: str) -> None:
    most = allowed_parts(job, config)
    if total > most:
        word = "the limit" if job.parent is None else "its share of the limit"
        raise BadInput(
            field,
            f"makes at least {total:,} parts, with those of the jobs within the job; {word} is {most:,}",
            "take fewer votes or coarser sections, or raise limits.nested_parts in the configuration",
        )


#: Times limits.payload_bytes: what the parts of one job may repeat together. 64 MiB where nothing else is configured,
#: 6.7 kB for each of 10,000 parts.
MOST_COPIED = 8


def check_copies(job: Job, parts: Sequence[PartSpec], config: Config) -> None:
    """See that what is written once a part is not too much: its text too, which a split may repeat the head of.

    Raises:
        BadInput: if it is more than `MOST_COPIED` times ``limits.payload_bytes``.
    """
    limit = MOST_COPIED * config.limits.payload_bytes
    # The parts share most of these values: each is measured once, while `parts` keep it.
    sizes: dict[int, int] = {}
    handed_on = _size(job.metadata, sizes) + _size(job.labels, sizes)
    total = 0
    for part in parts:
        total += sum(_size(value, sizes) for value in (part.text, part.prompt, part.schema, part.task))
        if part.child is not None:
            # Of a part that a model has proposed the job gets all of the text.
            total += handed_on + _fields(part.child, sizes) + (len(job.text or "") if part.text is None else 0)
    if total > limit:
        whose = "variety" if job.variety is not None else "split" if job.items is None else "items"
        raise BadInput(
            "each" if job.each is not None else whose,
            f"what is kept once a part (texts, prompts, schemas, metadata) has {total:,} bytes, the limit is {limit:,}",
            "shorten what is repeated, name prompts of the configuration (file:NAME), or send several jobs",
        )


def _fields(child: Mapping[str, Any], sizes: dict[int, int]) -> int:
    """All but the text, which is a section's own."""
    return sum(_size(value, sizes) for name, value in child.items() if name != "text")


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Bytes of a value, about: of a text its characters."""
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value)
    if id(value) not in sizes:
        sizes[id(value)] = len(json.dumps(value, default=str))
    return sizes[id(value)]
