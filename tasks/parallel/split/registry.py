"""Splits: how a function declares that it is one, and how a job finds it by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict

from tasks.contract.errors import BadInput
from tasks.contract.plugins import Plugins

if TYPE_CHECKING:
    from tasks.parallel.split.section import Section

__all__ = [
    "GROUP",
    "Split",
    "SplitOptions",
    "SplitTraits",
    "nothing_found",
    "split",
    "split_named",
    "split_options",
    "split_traits",
    "splits",
    "splitter",
]

#: The entry points that declare splits.
GROUP = "pointsman.splits"

#: From a text, and the options if the split has any, to the sections of the text.
#:
#: Raises `BadInput` if the text has no section of that kind.
Split: TypeAlias = "Callable[..., list[Section]]"

_PLUGINS = Plugins(GROUP, "split")


class SplitOptions(BaseModel):
    """The `split_options` of a split; each split with options declares a subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class SplitTraits:
    """What the caller of a split needs to know before the call."""

    #: The class of `split_options`.
    options: type[BaseModel] | None = None
    #: Where the sections come from: ``text``, the split function cuts the text; ``files``, the files of the job are
    #: the sections; ``model``, a model proposes the sections.
    by: Literal["text", "files", "model"] = "text"


def splitter(
    *, options: type[BaseModel] | None = None, by: Literal["text", "files", "model"] = "text"
) -> Callable[[Split], Split]:
    """Declare a split with its `SplitTraits`. A split without this declaration cuts a text and has no options."""

    def mark(function: Split) -> Split:
        function.traits = SplitTraits(options, by)  # type: ignore[attr-defined]
        return function

    return mark


def split_traits(split: Split) -> SplitTraits:
    """Return the declared traits of a split, or the defaults."""
    declared = getattr(split, "traits", None)
    return declared if isinstance(declared, SplitTraits) else SplitTraits()


def splits() -> tuple[str, ...]:
    """Return the names of all splits."""
    return _PLUGINS.names


def split_named(name: str) -> Split:
    """Return the split of this name.

    Raises:
        BadInput: if there is none.
    """
    return cast("Split", _PLUGINS.named(name))


def split_options(name: str, given: Mapping[str, Any]) -> BaseModel | None:
    """Return the checked options of a split; None if the split has none.

    Raises:
        BadInput: naming the wrong option, or the split if there is none of that name.
    """
    return _PLUGINS.options(name, split_traits(split_named(name)).options, given)


def split(text: str, how: str, options: Mapping[str, Any] | None = None) -> list[Section]:
    """Cut `text` into sections, in order, by the split called `how`.

    Raises:
        BadInput: if there is no split of that name, if an option is wrong, or if the text has no section of that kind.
    """
    function = split_named(how)
    checked = split_options(how, options or {})
    if not text.strip():
        raise BadInput("text", "the document is empty", "send the text that shall be cut")
    return function(text) if checked is None else function(text, checked)


def nothing_found(how: str, problem: str) -> BadInput:
    """Return the error of a split that finds no section of its kind."""
    others = (name for name in splits() if name != how and split_traits(split_named(name)).by == "text")
    return BadInput("text", problem, f"use another split ({', '.join(others)}) or send the parts as items")
