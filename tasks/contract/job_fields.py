"""The rules of a job's fields beside their types; `tasks.contract.job` gives each field a `FieldRule`.

Every list of fields in the code is derived from these rules: the fields that child jobs inherit, those that the ledger
keeps apart, the options of ``pointsman submit``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import Field

__all__ = ["ChildRule", "FieldRule", "job_field"]

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
