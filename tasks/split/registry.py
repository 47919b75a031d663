"""Splits by name: ours, and those that packages declare under the entry point ``pointsman.splits``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from tasks.errors import BadInput
from tasks.split.declare import traits_of

if TYPE_CHECKING:
    from tasks.split.declare import Split
    from tasks.split.section import Section

__all__ = ["GROUP", "nothing_found", "split", "split_named", "split_options", "splits"]

#: The group of entry points that custom splits are declared in.
GROUP = "pointsman.splits"


@cache
def splits() -> tuple[str, ...]:
    """The names of all splits."""
    return tuple(sorted(_found()))


@cache
def split_named(name: str) -> Split:
    """The split of this name.

    Raises:
        BadInput: if there is none.
    """
    found = _found().get(name)
    if found is None:
        raise BadInput("split", f"there is no split {name!r}", f"use one of: {', '.join(splits())}")
    return cast("Split", found.load())


def split_options(name: str, given: Mapping[str, Any]) -> BaseModel | None:
    """The options of a split, checked; None where it has none.

    Raises:
        BadInput: naming the option that is wrong, or the split if there is none of that name.
    """
    model = traits_of(split_named(name)).options
    if model is None:
        if given:
            raise BadInput("split_options", f"the split {name!r} has no options", "leave them out")
        return None
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(("split_options", *map(str, first["loc"])))
        remedy = f"options of {name} are: {', '.join(model.model_fields)}"
        if first["type"] == "extra_forbidden":
            raise BadInput(field, "is not an option of this split", remedy) from None
        problem = first["msg"].removeprefix("Value error, ")
        raise BadInput(field, problem[:1].lower() + problem[1:]) from None


def split(text: str, how: str, options: Mapping[str, Any] | None = None) -> list[Section]:
    """The sections of `text`, in order, by the split called `how`.

    Raises:
        BadInput: when there is no split of that name, when an option of it is wrong, and when the document has no
            section of that kind.
    """
    function = split_named(how)
    read = split_options(how, options or {})
    if not text.strip():
        raise BadInput("text", "the document is empty", "send the text that shall be cut")
    return function(text) if read is None else function(text, read)


def nothing_found(how: str, problem: str) -> BadInput:
    """What a split raises that finds no section of its kind."""
    others = (name for name in splits() if name != how and traits_of(split_named(name)).by == "text")
    return BadInput("text", problem, f"use another split ({', '.join(others)}) or send the parts as items")


@cache
def _found() -> Mapping[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}
