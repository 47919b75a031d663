"""Splits by name, and how a function declares that it is a split."""

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

#: From a text, and the split's options where it has any, to its sections.
#:
#: Raises `BadInput` when the text has no section of that kind.
Split: TypeAlias = "Callable[..., list[Section]]"


class SplitOptions(BaseModel):
    """What `split_options` may say to a split: a split with options declares a class below this one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class SplitTraits:
    """What is to be known of a split before it is called."""

    options: type[BaseModel] | None = None
    #: What cuts: the function itself, from the text (``text``); nobody, since the job's files are the sections
    #: (``files``); or a model, which is asked for the sections (``model``).
    by: Literal["text", "files", "model"] = "text"


def splitter(
    *, options: type[BaseModel] | None = None, by: Literal["text", "files", "model"] = "text"
) -> Callable[[Split], Split]:
    """Mark a split, see `SplitTraits`. One that is not marked has no options and cuts a text."""

    def mark(function: Split) -> Split:
        function.traits = SplitTraits(options, by)  # type: ignore[attr-defined]
        return function

    return mark


def split_traits(split: Split) -> SplitTraits:
    known = getattr(split, "traits", None)
    return known if isinstance(known, SplitTraits) else SplitTraits()


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
    return _PLUGINS.options(name, split_traits(split_named(name)).options, given)


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
    others = (name for name in splits() if name != how and split_traits(split_named(name)).by == "text")
    return BadInput("text", problem, f"use another split ({', '.join(others)}) or send the parts as items")
