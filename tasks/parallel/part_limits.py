"""The limits on the parts of a job: their number with all child jobs, and the bytes that they repeat. Pure.

A thousand sections with a vote of a thousand each are a million calls, and child jobs nest five levels deep. So the
parts of the whole tree are counted: before any call those that are certain, then by shares. Each child job gets an
equal share of the remaining parts as its own limit, so no counter is needed that a crash could leave wrong.

The ledger holds the prompt of a job once, but that of a vote's variety, or of child jobs, once a part: a prompt of a
megabyte and a thousand votes would be a gigabyte, in the router and in the ledger. So the repeated bytes are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.config.config import Config
from tasks.contract.errors import BadInput
from tasks.contract.job import Job
from tasks.contract.job_fields import Item
from tasks.parallel.part_spec import DEEPEST, PartSpec

#: Times limits.payload_bytes: the bytes that the parts of one job may repeat together. By default 64 MiB, which is
#: 6.7 kB for each of 10,000 parts.
MOST_COPIED = 8


def allowed_parts(job: Job, config: Config) -> int:
    """Return the parts that the job and its child jobs may have: all, or the share that its parent gave it."""
    most = config.limits.nested_parts
    return most if job.parent is None or job.parent.parts is None else min(most, job.parent.parts)


def check_part_count(job: Job, config: Config) -> None:
    """Raise `BadInput` if the number of parts that is certain before the text is cut exceeds the limit."""
    if job.kind == "vote":
        field = "n"
    elif job.items is not None:
        field = "items"
    else:
        field = "kind" if job.kind in config.flows else "each"
    fields = {"kind": job.kind, "n": job.n, "items": job.items, "each": job.each}
    _check_total(job, least_parts(fields, config), config, field)


def check_planned_parts(job: Job, children: Sequence[Mapping[str, Any] | None], config: Config) -> None:
    """Raise `BadInput` if the planned parts and their child jobs exceed the limit.

    `children` holds the fields of each part's child job, None for a call.
    """
    total = sum(1 + (0 if child is None else least_parts(child, config)) for child in children)
    _check_total(job, total, config, "text" if job.each is None else "each")


def part_share(job: Job, parts: int, config: Config) -> int:
    """Return the parts that each child job of `job`, which has so many `parts` itself, may have.

    The steps of a workflow that are single calls need one part each; the other steps share the rest.
    """
    left = allowed_parts(job, config) - parts
    workflow = config.flows.get(job.kind)
    if workflow is not None:
        parts = sum(step.job.get("kind", "single") != "single" for step in workflow.steps)
    return max(1, left // max(1, parts))


def least_parts(fields: Mapping[str, Any], config: Config, *, depth: int = 0) -> int:
    """Return the least number of parts of a job with these fields, with those of its child jobs.

    A text counts as one section: the real number is unknown before the text is cut. Other checks refuse deeper nesting
    and workflows that lead back to themselves.
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
    """Yield the parts of each item's child job: none if the item is a call."""
    if items is None:
        return (0,)
    return (int(isinstance(item, Item) and (item.route is not None or item.model is not None)) for item in items)


def _check_total(job: Job, total: int, config: Config, field: str) -> None:
    most = allowed_parts(job, config)
    if total > most:
        word = "the limit" if job.parent is None else "its share of the limit"
        raise BadInput(
            field,
            f"makes at least {total:,} parts, with those of the jobs within the job; {word} is {most:,}",
            "take fewer votes or coarser sections, or raise limits.nested_parts in the configuration",
        )


def check_copies(job: Job, parts: Sequence[PartSpec], config: Config) -> None:
    """Raise `BadInput` if the bytes that are kept once a part exceed `MOST_COPIED` times ``limits.payload_bytes``.

    The texts count too: a split may repeat a header in each section.
    """
    limit = MOST_COPIED * config.limits.payload_bytes
    # By id: the parts share most of these values, and each is measured once.
    sizes: dict[int, int] = {}
    inherited = _size(job.metadata, sizes) + _size(job.labels, sizes)
    total = 0
    for part in parts:
        total += sum(_size(value, sizes) for value in (part.text, part.prompt, part.schema, part.task))
        if part.child is not None:
            # The child job of a proposed section gets the whole text.
            total += inherited + _fields(part.child, sizes) + (len(job.text or "") if part.text is None else 0)
    if total > limit:
        whose = "variety" if job.variety is not None else "split" if job.items is None else "items"
        raise BadInput(
            "each" if job.each is not None else whose,
            f"what is kept once a part (texts, prompts, schemas, metadata) has {total:,} bytes, the limit is {limit:,}",
            "shorten what is repeated, name prompts of the configuration (file:NAME), or send several jobs",
        )


def _fields(child: Mapping[str, Any], sizes: dict[int, int]) -> int:
    """Return the bytes of all fields except the text, which is the section's own."""
    return sum(_size(value, sizes) for name, value in child.items() if name != "text")


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Return the approximate bytes of a value; for a text its characters."""
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value)
    if id(value) not in sizes:
        sizes[id(value)] = len(json.dumps(value, default=str))
    return sizes[id(value)]
