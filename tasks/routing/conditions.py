"""Conditions of a specialist, as those of a route's ``when``: metadata, length of the text, hour and weekday."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.routing.classify.condition import METADATA, WEEKDAYS, Condition
from tasks.routing.classify.context import read_rule
from tasks.routing.snapshot import Request


def read_conditions(when: Mapping[str, Any]) -> frozenset[Condition]:
    """Read what stands in a mapping, all of which must hold.

    Raises:
        ValueError: naming the condition, and what it may be.
    """
    if not when:
        raise ValueError("has no condition, so it would always hold; the default is for what no specialist takes")
    return read_rule("", when).conditions


def holds(conditions: frozenset[Condition], request: Request) -> bool:
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
