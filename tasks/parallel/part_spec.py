"""A part of a job before it is sent, and the id and the fields of its child job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from tasks.contract.errors import BadInput
from tasks.contract.job import GIVEN, JOB_FIELDS, Job, derived_id
from tasks.contract.job_fields import Item


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


#: Levels of child jobs: a vote on a section of a section of a step of a workflow.
DEEPEST = 5

#: The values that hold for the sections of a job hold for their child jobs, unless `each` sets others.
_INHERITED = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "inherited")
#: Of these the nearest setting counts alone: a job that names a model has no use for its parent's route.
_ROUTING = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "routing")


def child_id(job_id: str, index: int) -> str:
    """Return the id of the child job of a part."""
    return derived_id(job_id, f"part {index} of {job_id}")


def fields_for_section(job: Job, text: str) -> Mapping[str, Any]:
    """Return the fields of the child job of a section; raise `BadInput` for a field that `each` may not set."""
    own = dict(job.each or {})
    for field in own:
        if field in GIVEN:
            raise BadInput(f"each.{field}", "can't be set by each", "it comes with the job, or the section")
    kind = str(own.get("kind", "single"))
    plain = kind in {"single", "sections", "vote"}
    inherited = {name: value for name in _INHERITED if plain and (value := getattr(job, name)) is not None}
    if plain and not any(name in own for name in _ROUTING):
        inherited |= _routing_fields(job)
    return {**inherited, "kind": kind, **own, "text": text}


def fields_for_item(job: Job, item: Item) -> Mapping[str, Any]:
    """Return the fields of the child job of an item: it names a route or a model, or its job has `each`."""
    fields = dict(fields_for_section(job, item.text))
    own = {name: value for name in ("prompt", "response_schema") if (value := getattr(item, name)) is not None}
    if item.route is not None or item.model is not None:
        for name in _ROUTING:
            fields.pop(name, None)
        own |= {name: value for name in ("route", "model") if (value := getattr(item, name)) is not None}
    return fields | own


def _routing_fields(job: Job) -> dict[str, Any]:
    return {
        name: value
        for name in _ROUTING
        if (value := getattr(job, name)) is not None and (name, value) != ("model", "auto")
    }
