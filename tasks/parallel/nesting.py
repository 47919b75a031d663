"""Child jobs: their ids, and the fields that they inherit from the job whose part they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import BadInput
from tasks.contract.job import GIVEN, JOB_FIELDS, Job, ulid

if TYPE_CHECKING:
    from tasks.contract.job_fields import Item

__all__ = ["DEEPEST", "child_id", "fields_for_item", "fields_for_section"]

#: Levels of child jobs: a vote on a section of a section of a step of a workflow.
DEEPEST = 5

#: The values that hold for the sections of a job hold for their child jobs, unless `each` sets others.
_INHERITED = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "inherited")
#: Of these the nearest setting counts alone: a job that names a model has no use for its parent's route.
_ROUTING = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "routing")


def child_id(job_id: str, index: int) -> str:
    """Return the id of the child job of a part: always the same, and sorted beside the job's id."""
    rest = hashlib.sha256(f"part {index} of {job_id}".encode()).digest()[:10]
    return job_id[:10] + ulid(0, int.from_bytes(rest))[10:]


def fields_for_section(job: Job, text: str) -> Mapping[str, Any]:
    """Return the fields of the child job of a section of `job`, by its `each`.

    Raises:
        BadInput: naming a field that `each` may not set.
    """
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
