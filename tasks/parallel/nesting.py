"""The fields of a job that is the work of another job's part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import BadInput
from tasks.contract.ids import ulid
from tasks.contract.job import GIVEN, JOB_FIELDS, Job

if TYPE_CHECKING:
    from tasks.contract.job import Item

__all__ = ["DEEPEST", "child_id", "fields_for_item", "fields_for_section"]

#: Jobs within jobs: a vote on a section of a section of a workflow's step.
DEEPEST = 5

#: The values that hold for the sections of a job hold for their child jobs, unless `each` sets others.
_INHERITED = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "inherited")
#: Of these the nearest setting counts alone: a job that names a model has no use for its parent's route.
_ROUTING = tuple(name for name, rule in JOB_FIELDS.items() if rule.child == "routing")


def child_id(job_id: str, index: int) -> str:
    """The id of the job that is a part's work: always the same, and sorted beside the job's."""
    rest = hashlib.sha256(f"part {index} of {job_id}".encode()).digest()[:10]
    return job_id[:10] + ulid(0, int.from_bytes(rest))[10:]


def fields_for_section(job: Job, text: str) -> Mapping[str, Any]:
    """The fields of the job that a section of `job` is, by its `each`.

    Raises:
        BadInput: naming the field of `each` that is not for it to say.
    """
    said = dict(job.each or {})
    for field in said:
        if field in GIVEN:
            raise BadInput(f"each.{field}", "is not for each to say", "it comes with the job, or the section")
    kind = str(said.get("kind", "single"))
    plain = kind in {"single", "sections", "vote"}
    inherited = {name: value for name in _INHERITED if plain and (value := getattr(job, name)) is not None}
    if plain and not any(name in said for name in _ROUTING):
        inherited |= _placed(job)
    return {**inherited, "kind": kind, **said, "text": text}


def fields_for_item(job: Job, item: Item) -> Mapping[str, Any]:
    """The fields of the job that an item is which names a route or a model, or whose job has `each`."""
    fields = dict(fields_for_section(job, item.text))
    own = {name: value for name in ("prompt", "response_schema") if (value := getattr(item, name)) is not None}
    if item.route is not None or item.model is not None:
        for name in _ROUTING:
            fields.pop(name, None)
        own |= {name: value for name in ("route", "model") if (value := getattr(item, name)) is not None}
    return fields | own


def _placed(job: Job) -> dict[str, Any]:
    return {
        name: value
        for name in _ROUTING
        if (value := getattr(job, name)) is not None and (name, value) != ("model", "auto")
    }
