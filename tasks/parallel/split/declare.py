"""How a function says that it is a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from tasks.parallel.split.section import Section

__all__ = ["Split", "SplitOptions", "SplitTraits", "splitter", "traits_of"]

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


def traits_of(split: Split) -> SplitTraits:
    known = getattr(split, "traits", None)
    return known if isinstance(known, SplitTraits) else SplitTraits()
