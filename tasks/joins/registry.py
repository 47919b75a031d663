"""Joins by name: ours, and those that packages declare under the entry point ``pointsman.joins``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from tasks.errors import BadInput
from tasks.joins.declare import traits_of

if TYPE_CHECKING:
    from tasks.joins.values import Join

__all__ = ["DEFAULT_JOINS", "GROUP", "join_named", "join_options", "joins"]

#: The group of entry points that custom joins are declared in.
GROUP = "pointsman.joins"

#: The join of a kind that names none.
DEFAULT_JOINS: Mapping[str, str] = {"sections": "concatenate", "vote": "majority"}


@cache
def joins() -> tuple[str, ...]:
    """The names of all joins."""
    return tuple(sorted(_found()))


@cache
def join_named(name: str) -> Join:
    """The join of this name.

    Raises:
        BadInput: if there is none.
    """
    found = _found().get(name)
    if found is None:
        raise BadInput("join", f"there is no join {name!r}", f"use one of: {', '.join(joins())}")
    return cast("Join", found.load())


def join_options(name: str, given: Mapping[str, Any]) -> BaseModel | None:
    """The options of a join, checked.

    Raises:
        BadInput: naming the option that is wrong.
    """
    model = traits_of(join_named(name)).options
    if model is None:
        if given:
            raise BadInput("join_options", f"the join {name!r} has no options", "leave them out")
        return None
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(("join_options", *map(str, first["loc"])))
        if first["type"] == "extra_forbidden":
            remedy = f"options of {name} are: {', '.join(model.model_fields)}" if len(first["loc"]) == 1 else ""
            raise BadInput(field, "is not an option of this join", remedy) from None
        problem = first["msg"].removeprefix("Value error, ")
        raise BadInput(field, problem[:1].lower() + problem[1:]) from None


@cache
def _found() -> Mapping[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}
