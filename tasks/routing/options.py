"""What ``routes.NAME.options`` says to the route's strategy: read and checked with the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeAlias, cast

from pydantic import BaseModel, ValidationError

from tasks.contract.errors import BadInput
from tasks.contract.validation import Words, find_problems
from tasks.routing.snapshot import Strategy, options_of

GROUP = "pointsman.strategies"

#: Where in a route a problem stands, and what it is.
Problem: TypeAlias = tuple[tuple[str | int, ...], str]


@cache
def strategies() -> frozenset[str]:
    """The names of all strategies that are installed, ours and those of other distributions."""
    return frozenset(point.name for point in entry_points(group=GROUP))


@cache
def strategy_named(name: str) -> Strategy:
    """The strategy that is installed under this name.

    Raises:
        BadInput: if there is none.
    """
    points = entry_points(group=GROUP)
    if name not in points.names:
        raise BadInput("strategy", f"{name!r} is not a strategy", f"allowed: {', '.join(sorted(points.names))}")
    return cast(Strategy, points[name].load())


@cache
def reads_traits(name: str) -> bool:
    """Whether a strategy reads the weights, prices or scores of models; one that does not say so may."""
    return name in strategies() and bool(getattr(strategy_named(name), "traits", True))


@cache
def has_options(name: str) -> bool:
    """Whether a route may give this strategy options."""
    return name in strategies() and getattr(strategy_named(name), "options", None) is not None


def is_sticky(name: str) -> bool:
    """Whether a call that failed stays with its model until its attempts there are used up."""
    # A model that was named is the only one; a strategy that is gone since has no say.
    return name not in strategies() or bool(getattr(strategy_named(name), "sticky", False))


def is_predicting(name: str) -> bool:
    """Whether a strategy reads how well each model is predicted to answer."""
    return name in strategies() and bool(getattr(strategy_named(name), "predicts", False))


def read_options(strategy: str, given: Mapping[str, Any]) -> BaseModel | None:
    """The options as the strategy reads them; None where there are none or it takes none."""
    kind = options_of(strategy_named(strategy))
    return kind.model_validate(dict(given)) if kind is not None and given else None


def find_option_problems(strategy: str, given: Any, models: Collection[Any]) -> list[Problem]:
    """What is wrong with a route's options: where in the route, and what."""
    if not isinstance(given, Mapping) or not given:
        return []
    kind = options_of(strategy_named(strategy))
    if kind is None:
        return [(("options",), f"strategy {strategy!r} takes no options")]
    try:
        read = kind.model_validate(dict(given))
    except ValidationError as error:
        allowed = f"is not an option of this strategy; allowed: {', '.join(kind.model_fields)}"
        words: Words = {"extra_forbidden": lambda item: allowed if len(item["loc"]) == 1 else item["msg"]}
        return [(("options", *problem.loc), problem.text) for problem in find_problems(error, words)]
    return [
        (("options", *loc), f"{name!r} is not among the models of this route: {', '.join(map(str, models))}")
        for loc, name in _named(read)
        if name not in models
    ]


def _named(read: BaseModel) -> list[tuple[tuple[str | int, ...], str]]:
    """The models that options name, with where they do: keys of ``weights``, entries of ``models`` and ``default``."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    for name in type(read).model_fields:
        value = getattr(read, name)
        if name == "weights" and isinstance(value, Mapping) and not _METRICS.issuperset(value):
            found += [((name, key), key) for key in value]
        elif name in {"models", "default"} and isinstance(value, tuple):
            found += [((name, place), model) for place, model in enumerate(value)]
        elif isinstance(value, tuple):
            for place, item in enumerate(value):
                if isinstance(item, BaseModel):
                    found += [((name, place, *loc), model) for loc, model in _named(item)]
    return found


#: The keys of ``weights`` where these are not models.
_METRICS = frozenset({"speed", "accuracy", "creativity", "ethics", "cost"})
