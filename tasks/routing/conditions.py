"""Conditions of a specialist, as those of a route's ``when``: metadata, length of the text, hour and weekday."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.classify.condition import METADATA, WEEKDAYS, Condition, read_condition

if TYPE_CHECKING:
    from tasks.routing.snapshot import Request

__all__ = ["holds", "read_conditions"]


def read_conditions(when: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Read what stands in a mapping, all of which must hold.

    Raises:
        ValueError: naming the condition, and what it may be.
    """
    if not when:
        raise ValueError("has no condition, so it would always hold; the default is for what no specialist takes")
    found = []
    for name, value in when.items():
        try:
            found.append(read_condition(name, value))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(found)


def holds(conditions: tuple[Condition, ...], request: Request) -> bool:
    """Whether all hold for what is known of a job."""
    return all(condition.holds(_fact(condition.name, request)) for condition in conditions)


def _fact(name: str, request: Request) -> Any:
    if name == "length":
        return request.length
    if name in {"hour", "weekday"}:
        if request.at is None:
            return None
        return request.at.hour if name == "hour" else WEEKDAYS[request.at.weekday()]
    return request.metadata.get(name.removeprefix(METADATA))
