"""Joins by name: ours, and those that packages declare under the entry point ``pointsman.joins``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from tasks.contract.plugins import Plugins
from tasks.parallel.joins.declare import traits_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tasks.parallel.joins.values import Join

__all__ = ["DEFAULT_JOINS", "GROUP", "join_named", "join_options", "joins"]

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
    return _PLUGINS.options(name, traits_of(join_named(name)).options, given)
