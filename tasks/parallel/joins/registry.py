"""Joins by name, and how a function declares that it is a join."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from tasks.contract.plugins import Plugins

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tasks.parallel.joins.work import Join

__all__ = ["DEFAULT_JOINS", "GROUP", "JoinTraits", "join_named", "join_options", "join_traits", "joiner", "joins"]

#: From an output and the join's options to the ballot that it casts, "" for none.
Ballot = Callable[[str, "BaseModel | None"], str]


@dataclass(frozen=True, slots=True)
class JoinTraits:
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
    """Mark a join, see `JoinTraits`. One that is not marked goes with every kind and has no options."""

    def mark(function: Join) -> Join:
        function.traits = JoinTraits(kinds, options, ballot, asks)  # type: ignore[attr-defined]
        return function

    return mark


def join_traits(join: Join) -> JoinTraits:
    known = getattr(join, "traits", None)
    return known if isinstance(known, JoinTraits) else JoinTraits(("sections", "vote"))


#: The group of entry points that custom joins are declared in.
GROUP = "pointsman.joins"

#: The join of a kind that names none.
DEFAULT_JOINS: Mapping[str, str] = {"sections": "concatenate", "vote": "majority"}


_PLUGINS = Plugins(GROUP, "join")


def joins() -> tuple[str, ...]:
    """The names of all joins."""
    return _PLUGINS.names


def join_named(name: str) -> Join:
    """The join of this name.

    Raises:
        BadInput: if there is none.
    """
    return cast("Join", _PLUGINS.named(name))


def join_options(name: str, given: Mapping[str, Any]) -> BaseModel | None:
    """The options of a join, checked; None where it has none.

    Raises:
        BadInput: naming the option that is wrong, or the join if there is none of that name.
    """
    return _PLUGINS.options(name, join_traits(join_named(name)).options, given)
