"""What the configuration and measured profiles say of each model of a route, as strategies see it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel

from tasks.config.config import Config
from tasks.config.models import Price
from tasks.config.profiles import MeasuredProfile, read_profiles, scores_of
from tasks.contract.errors import BadInput
from tasks.routing.options import read_options
from tasks.routing.snapshot import Traits
from tasks.routing.strategies.specialists import ProfileOptions

#: Tokens of a call by which prices are compared.
TYPICAL_INPUT, TYPICAL_OUTPUT = 1000, 250


def find_traits(config: Config, route: str, models: Collection[str]) -> Mapping[str, Traits]:
    """The traits of `models` for jobs of `route`; made once for a configuration.

    Where no score says what a model's cost is worth, its price does: 100 times the cheapest over its own.

    Raises:
        ConfigError: if the file of measured profiles can't be read.
    """
    names = tuple(models)
    return config.derived(f"traits {route} {' '.join(names)}", lambda: _traits(config, route, names))


def _traits(config: Config, route: str, names: tuple[str, ...]) -> Mapping[str, Traits]:
    measured = config.derived("measured profiles", lambda: _measured(config))
    costs = {name: typical_cost(config.models[name].price) for name in names}
    cheapest = min(costs.values())
    found = {}
    for name in names:
        model = config.models[name]
        scores = scores_of(model.profile, measured.get(name), route=route)
        scores.setdefault("cost", 100.0 * (cheapest / costs[name] if costs[name] else 1.0))
        found[name] = Traits(weight=model.weight, cost_usd=costs[name], scores=scores)
    return found


def typical_cost(price: Price) -> float:
    """USD of a call with 1,000 tokens in and 250 out."""
    return (TYPICAL_INPUT * price.input + TYPICAL_OUTPUT * price.output) / 1e6


def unmeasured(config: Config) -> bool:
    """Whether the file of measured profiles is named and not there yet: with what is to measure it, it must run."""
    return config.profiles is not None and not (config.folder / config.profiles).exists()


def _measured(config: Config) -> Mapping[str, MeasuredProfile]:
    if config.profiles is None or unmeasured(config):
        return {}
    return read_profiles(config.folder / config.profiles)


def find_options(config: Config, route: str, strategy: str) -> BaseModel | None:
    """What the route says to `strategy`; None where its options are another strategy's."""
    if not route or config.all_routes[route].strategy != strategy:
        return None
    return config.derived(f"options {route}", lambda: read_options(strategy, config.all_routes[route].options))


def check_metrics(config: Config, route: str, strategy: str, priority: str | None) -> None:
    """See that every model of a route has the scores that the strategy `profile` compares.

    Raises:
        BadInput: naming what is missing of which model, and the remedy.
    """
    if strategy != "profile":
        return
    options = find_options(config, route, strategy)
    metrics = (options if isinstance(options, ProfileOptions) else ProfileOptions()).metrics(priority)
    models = config.all_routes[route].models
    for model, traits in find_traits(config, route, models).items():
        for metric in metrics:
            if metric not in traits.scores:
                raise BadInput(
                    "priority_metric" if priority else "strategy",
                    f"model {model!r} has no {metric} in its profile",
                    f"write models.{model}.profile.{metric}, or measure it: pointsman profile",
                )
