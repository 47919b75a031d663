"""What the configuration says of a route: what belongs there, what it is told, and who does it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import Field, field_validator

from tasks.config.classifiers import When
from tasks.config.located import Problem, mapping, not_one_of
from tasks.config.models import Section
from tasks.routing.options import find_option_problems, strategies

__all__ = ["DEFAULT_STRATEGY", "Route", "route_problems"]

DEFAULT_STRATEGY = "least_connections"


class Route(Section):
    """The class a job falls into, with its prompt and its candidate models."""

    description: str = ""
    keywords: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    when: When = ()
    examples: tuple[str, ...] = ()
    prompt: str | None = Field(default=None, description="a text, or file:NAME")
    models: tuple[str, ...] = Field(min_length=1)
    fallbacks: tuple[str, ...] = Field(default=(), description="models for when all others are closed, or failed")
    strategy: str = DEFAULT_STRATEGY
    options: Mapping[str, Any] = Field(default_factory=dict, description="what the strategy may be told")

    @field_validator("keywords", "patterns", "examples")
    @classmethod
    def _no_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not item.strip() for item in value):
            raise ValueError("an entry is blank; leave it out")
        return value


def route_problems(route: Any, models: Collection[str]) -> Iterator[Problem]:
    """Models and strategies of a route that are none, and options that its strategy doesn't have.

    Reads plain data, which may be wrong in any other way; places are those inside the route.
    """
    wanted, strategy = mapping(route).get("models"), mapping(route).get("strategy", DEFAULT_STRATEGY)
    for field in ("models", "fallbacks"):
        named = mapping(route).get(field)
        for index, model in enumerate(named if isinstance(named, list | tuple) else ()):
            if isinstance(model, str) and model not in models:
                yield (field, index), not_one_of(model, "model", models)
    if isinstance(strategy, str) and strategy not in strategies():
        yield ("strategy",), not_one_of(strategy, "strategy", strategies())
    elif isinstance(strategy, str) and isinstance(wanted, list | tuple):
        yield from find_option_problems(strategy, mapping(route).get("options"), wanted)
