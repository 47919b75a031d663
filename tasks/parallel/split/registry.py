"""Splits: how a function declares that it is one, and how a job finds it by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from tasks.contract.errors import BadInput
from tasks.contract.plugins import Plugins
from tasks.contract.validation import Value
from tasks.parallel.split.section import Section

#: From a text, and the options if the split has any, to the sections of the text.
#:
#: Raises `BadInput` if the text has no section of that kind.
Split: TypeAlias = "Callable[..., list[Section]]"


class SplitOptions(Value):
    """The `split_options` of a split; each split with options declares a subclass."""


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


#: All splits by name; those without a declaration cut a text and have no options.
SPLITS: Plugins[Split, SplitTraits] = Plugins("pointsman.splits", "split", SplitTraits())


def split(text: str, how: str, options: Mapping[str, Any] | None = None) -> list[Section]:
    """Cut `text` into sections, in order, by the split called `how`.

    Raises:
        BadInput: if there is no split of that name, if an option is wrong, or if the text has no section of that kind.
    """
    function = SPLITS.named(how)
    checked = SPLITS.options(how, options or {})
    if not text.strip():
        raise BadInput("text", "the document is empty", "send the text that shall be cut")
    return function(text) if checked is None else function(text, checked)


def nothing_found(how: str, problem: str) -> BadInput:
    """Return the error of a split that finds no section of its kind."""
    others = (name for name in SPLITS.names if name != how and SPLITS.traits(name).by == "text")
    return BadInput("text", problem, f"use another split ({', '.join(others)}) or send the parts as items")
