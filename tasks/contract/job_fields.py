"""The types of a job's fields, and the rules beside them; `tasks.contract.job` gives each field a `FieldRule`.

Every list of fields in the code is derived from these rules: the fields that child jobs inherit, those that the ledger
keeps apart, the options of ``pointsman submit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, JsonValue

from tasks.contract.validation import Value

#: The value of a field in the child jobs of a job:
#:
#: - ``own``: the value that `each` or the step sets.
#: - ``inherited``: in the child job of a section the parent's value, unless `each` sets another.
#: - ``routing``: as ``inherited``, but a child job that sets one of these fields inherits none of them.
#: - ``same``: the parent's value; neither `each` nor a step may set it.
#: - ``rest``: what is left of the parent's; neither `each` nor a step may set it.
#: - ``input``: the text of the part.
#: - ``never``: a field of one job alone; the child job has a value of its own, or none.
ChildRule: TypeAlias = Literal["own", "inherited", "routing", "same", "rest", "input", "never"]


#: Seeds are whole numbers of 64 bits, as providers read them.
SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The rules of one field. `option` is that of ``pointsman submit``: its names and its metavar; "" for none."""

    child: ChildRule
    option: str = ""
    help: str = ""
    #: A workflow job may set it, and then the jobs of its steps have this value.
    steps: bool = False
    #: It may be large: the ledger keeps it apart, so that reading a job's state never reads it.
    bulk: bool = False


def job_field(
    child: ChildRule,
    option: str = "",
    help: str = "",  # noqa: A002 - as typer calls it
    *,
    default: Any = None,
    steps: bool = False,
    bulk: bool = False,
    **constraints: Any,
) -> Any:
    """A pydantic field with these rules; `constraints` are those of `pydantic.Field`."""
    if default == {}:
        constraints["default_factory"] = dict
    elif "default_factory" not in constraints:
        constraints["default"] = default
    field = Field(**constraints)
    field.metadata.append(FieldRule(child, option, help, steps, bulk))
    return field


class Message(Value):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Item(Value):
    """One section that the producer cut itself. Its own fields take precedence over those of the job."""

    text: str
    title: str = Field(default="", max_length=200)
    prompt: str | None = None
    #: With a route or a model the section is a child job, which is routed by itself.
    route: str | None = None
    model: str | None = None
    response_schema: Mapping[str, JsonValue] | None = None


class File(Value):
    """A document to work on. Its text is read when the job is accepted, and only the text is kept."""

    #: The ending is the format: .txt, .md, .html, .pdf, .docx, .csv, .tsv, .json, .jsonl; any other means text.
    name: str = Field(min_length=1, max_length=255)
    #: Its bytes in base64.
    data: str = Field(min_length=1)


class Unread(Value):
    """What could not be read of a file: `reason` says what it is, `pages` where, if it has pages."""

    file: str = Field(max_length=255)
    reason: str = Field(max_length=200)
    pages: tuple[int, ...] = Field(default=(), max_length=10_000)

    def describe(self) -> str:
        """Return it for people: ``no text, but pictures (pages 2, 3)``."""
        shown = ", ".join(map(str, self.pages[:_SHOWN])) + (", …" if len(self.pages) > _SHOWN else "")
        return f"{self.reason} (page{'s' * (len(self.pages) > 1)} {shown})" if self.pages else self.reason


#: Pages that a message names.
_SHOWN = 20


class Parent(Value):
    """The part (``JOB.INDEX.WAVE``) whose work a child job is, and the number of jobs above the child job."""

    part: str
    depth: int = Field(ge=1)
    #: Parts that the child job and its own child jobs may have: a share of the parent's.
    parts: int | None = Field(default=None, ge=1)


class Variety(Value):
    """Prompts, models and seeds that the votes of a job use in turn: for models that refuse a temperature."""

    prompts: tuple[str, ...] = Field(default=(), max_length=100)
    models: tuple[str, ...] = Field(default=(), max_length=100)
    seeds: tuple[Annotated[int, Field(ge=-SEEDS, lt=SEEDS)], ...] = Field(default=(), max_length=1000)
