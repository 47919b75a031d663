"""A part of a job before it is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import JsonValue

__all__ = ["NOTHING", "PartInput", "Slice"]


@dataclass(frozen=True, slots=True)
class PartInput:
    """What a part's call has of its own, beside its text; what is None is the job's."""

    prompt: str | None = None
    schema: Mapping[str, JsonValue] | None = None
    seed: int | None = None
    #: What of the job's input it shall do, told after it.
    task: str | None = None
    #: The models that may do it; empty: those that may do the job.
    among: tuple[str, ...] = ()
    #: The job's own prompt, schema and sampling are not for this call: it is what a join or a plan asks.
    bare: bool = False
    #: The fields of the job that is its work, but for the text.
    child: Mapping[str, JsonValue] | None = None

    def to_json(self) -> str:
        """The empty string where there is nothing to say."""
        # By identity: the seed 0 is said, too.
        if self == NOTHING:
            return ""
        said = {name: value for name, value in asdict(self).items() if value not in ((), None) and value is not False}
        return json.dumps(said, separators=(",", ":")) if said else ""

    @classmethod
    def from_json(cls, text: str) -> PartInput:
        if not text:
            return NOTHING
        said = json.loads(text)
        return cls(**(said | {"among": tuple(said.get("among", ()))}))


NOTHING = PartInput()


@dataclass(frozen=True, slots=True)
class Slice:
    """`text` is None where the job's own input serves; `child` are the fields of the job that is its work."""

    title: str
    text: str | None
    own: PartInput = field(default_factory=PartInput)
    child: Mapping[str, Any] | None = None
