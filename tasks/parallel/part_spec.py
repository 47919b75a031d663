"""A part of a job before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

__all__ = ["PartSpec"]


@dataclass(frozen=True, slots=True)
class PartSpec:
    """What one part is to do. A field that is None, or empty, is the job's.

    The split makes it, planning adds the model or the child job, the ledger keeps it, and a claim reads it back.
    """

    #: "" where no model is chosen yet, and where the part's work is a child job, which finds its own.
    model: str = ""
    title: str = ""
    text: str | None = None
    prompt: str | None = None
    schema: Mapping[str, JsonValue] | None = None
    seed: int | None = None
    #: What to do with the job's input: a second message after it.
    task: str | None = None
    #: The models that may do it; empty: those that may do the job.
    candidates: tuple[str, ...] = ()
    #: The call ignores the job's own prompt, schema and sampling: a join or a plan asks it.
    bare: bool = False
    #: The fields of the child job that is this part's work; None where the part is a call.
    child: Mapping[str, Any] | None = None
    #: The id of that child job, "" for a call.
    job: str = ""
    #: Why the part has failed before it began: no model can take it.
    error: str = ""
