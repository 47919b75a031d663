"""What the parts of a job have of their own beside their text, and what the jobs within it repeat. Pure.

A prompt of a job stands in the ledger once. That of a vote's variety, or of the jobs that are a job's sections, stands
there once a part: a prompt of a megabyte and a thousand votes would be a gigabyte, in the router and in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import BadInput

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.contract.job import Job
    from tasks.parallel.part_spec import Slice

__all__ = ["MOST_COPIED", "check_copies"]

#: Times limits.payload_bytes: what the parts of one job may repeat together. 64 MiB where nothing else is configured,
#: 6.7 kB for each of 10,000 parts.
MOST_COPIED = 8


def check_copies(job: Job, slices: Sequence[Slice], config: Config) -> None:
    """See that what is written once a part is not too much: its text too, which a split may repeat the head of.

    Raises:
        BadInput: if it is more than `MOST_COPIED` times ``limits.payload_bytes``.
    """
    limit = MOST_COPIED * config.limits.payload_bytes
    # The parts share most of these values: each is measured once, while `slices` keep it.
    sizes: dict[int, int] = {}
    handed_on = _size(job.metadata, sizes) + _size(job.labels, sizes)
    total = 0
    for piece in slices:
        own = piece.own
        total += sum(_size(value, sizes) for value in (piece.text, own.prompt, own.schema, own.task))
        if piece.child is not None:
            # Of a part that a model has proposed the job gets all of the text.
            total += handed_on + _fields(piece.child, sizes) + (len(job.text or "") if piece.text is None else 0)
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
