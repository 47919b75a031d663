"""How a function says that it is a join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tasks.parallel.joins.values import Join

__all__ = ["Traits", "joiner", "traits_of"]

#: From an output and the join's options to the ballot that it casts, "" for none.
Ballot = Callable[[str, "BaseModel | None"], str]


@dataclass(frozen=True, slots=True)
class Traits:
    """What is to be known of a join before it is called."""

    #: The kinds of job that it goes with.
    kinds: tuple[Literal["sections", "vote"], ...]
    #: What `join_options` may say to it.
    options: type[BaseModel] | None = None
    #: For votes that may stop early: how an output is counted. None: the join needs all parts.
    ballot: Ballot | None = None
    #: It asks models: `join_model` says which.
    asks: bool = False


def joiner(
    *,
    kinds: tuple[Literal["sections", "vote"], ...],
    options: type[BaseModel] | None = None,
    ballot: Ballot | None = None,
    asks: bool = False,
) -> Callable[[Join], Join]:
    """Mark a join, see `Traits`. One that is not marked goes with every kind and has no options."""

    def mark(function: Join) -> Join:
        function.traits = Traits(kinds, options, ballot, asks)  # type: ignore[attr-defined]
        return function

    return mark


def traits_of(join: Join) -> Traits:
    known = getattr(join, "traits", None)
    return known if isinstance(known, Traits) else Traits(("sections", "vote"))
