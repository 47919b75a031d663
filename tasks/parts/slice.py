"""A part of a job before it has a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.ledger.records import PartInput

__all__ = ["Slice"]


@dataclass(frozen=True, slots=True)
class Slice:
    """`text` is None where the job's own input serves; `child` are the fields of the job that is its work."""

    title: str
    text: str | None
    own: PartInput = field(default_factory=PartInput)
    child: Mapping[str, Any] | None = None
