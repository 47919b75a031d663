"""Splits by name: ours, and those that packages declare under the entry point ``pointsman.splits``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from tasks.contract.errors import BadInput
from tasks.contract.plugins import Plugins
from tasks.parallel.split.declare import traits_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tasks.parallel.split.declare import Split
    from tasks.parallel.split.section import Section

__all__ = ["GROUP", "nothing_found", "split", "split_named", "split_options", "splits"]

#: The group of entry points that custom splits are declared in.
GROUP = "pointsman.splits"


_PLUGINS = Plugins(GROUP, "split")


def splits() -> tuple[str, ...]:
    """The names of all splits."""
    return _PLUGINS.names


def split_named(name: str) -> Split:
    """The split of this name.

    Raises:
        BadInput: if there is none.
    """
    return cast("Split", _PLUGINS.named(name))


def split_options(name: str, given: Mapping[str, Any]) -> BaseModel | None:
    """The options of a split, checked; None where it has none.

    Raises:
        BadInput: naming the option that is wrong, or the split if there is none of that name.
    """
    return _PLUGINS.options(name, traits_of(split_named(name)).options, given)


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
