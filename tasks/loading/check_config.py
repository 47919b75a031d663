"""Check a configuration beyond its fields: names that must agree, rules, patterns, examples, options of strategies.

The checks read plain data, which may be wrong in any other way: so these problems appear beside those of the fields.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tasks.config.config import Config
from tasks.config.routes import DEFAULT_STRATEGY, ClassifierName
from tasks.contract.errors import BadInput
from tasks.contract.validation import Loc
from tasks.loading.located import Problem
from tasks.routing.classify.condition import read_condition
from tasks.routing.classify.paraphrases import read_paraphrases
from tasks.routing.options import find_option_problems, strategies
from tasks.routing.traits import check_metrics, unmeasured

#: Characters of an example that are shown beside its paraphrases.
SHOWN = 60
#: A name becomes part of a queue's name and of Redis keys.
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


def check_names(data: Mapping[str, Any]) -> list[Problem]:
    """Find invalid names, references to missing models or routes, and what is wrong with the routes' rules."""
    models, routes = _mapping(data.get("models")), _mapping(data.get("routes"))
    problems: list[Problem] = []
    for part, names in (("models", models), ("routes", routes), ("schedules", _mapping(data.get("schedules")))):
        problems += [
            ((part, name), "a name is lower case letters, digits, '.', '_' and '-', at most 64")
            for name in names
            if isinstance(name, str) and not re.fullmatch(NAME, name)
        ]
    if "auto" in models:
        problems.append((("models", "auto"), "auto is the word for a model that routing chooses; use another name"))
    for name, route in routes.items():
        problems += [(("routes", name, *loc), problem) for loc, problem in check_route(route, models)]
    envs = (_mapping(model).get("api_key_env") for model in models.values())
    named = {env for env in envs if isinstance(env, str)}
    problems += [
        (("keys", key), f"no model names it as api_key_env; those that are named: {', '.join(sorted(named)) or 'none'}")
        for key in _mapping(data.get("keys"))
        if key not in named
    ]
    problems += check_routing(data)
    default = data.get("default_route")
    if isinstance(default, str) and default not in routes:
        problems.append((("default_route",), not_one_of(default, "route", routes)))
    return problems


def check_scores(config: Config) -> list[Problem]:
    """Find routes whose strategy compares scores that a model's profile lacks; none before profiles are measured."""
    problems: list[Problem] = []
    for name, route in () if unmeasured(config) else config.routes.items():
        try:
            check_metrics(config, name, route.strategy, None)
        except BadInput as error:
            problems.append((("routes", name, "strategy"), error.sentence))
    return problems


def find_unused(config: Config) -> list[str]:
    """Find settings without effect: valid, but hardly intended. ``config check`` and ``doctor`` print them."""
    order, routes = config.classifier.order, config.routes.items()
    material: dict[ClassifierName, tuple[str, list[str]]] = {
        "context": ("when", [name for name, route in routes if route.when]),
        "rules": ("keywords and patterns", [name for name, route in routes if route.keywords or route.patterns]),
        "examples": ("examples", [name for name, route in routes if route.examples]),
    }
    found = [
        f"classifier.order leaves out {name}: {fields} of {', '.join(having)} are not used"
        for name, (fields, having) in material.items()
        if having and name not in order
    ]
    _, having = material["examples"]
    if "examples" in order and len(having) == 1:
        found.append(
            f"only route {having[0]!r} has examples, and a classifier needs those of two; give another route some"
        )
    if unmeasured(config):
        found.append(f"profiles: {config.profiles} is not there yet; write it with `pointsman profile`")
    return found


def describe_examples(config: Config) -> list[str]:
    """Say how the classifier of examples reads texts, and what it has of paraphrases; nothing where there is none."""
    if "examples" not in config.classifier.order or sum(bool(route.examples) for route in config.routes.values()) < 2:
        return []
    from tasks.routing.classify.encoder import describe_encoder  # noqa: PLC0415 - numpy, which not all commands need

    found = [f"classifier of examples: {describe_encoder(config.classifier.encoder)}"]
    if config.classifier.augment is not None:
        kept = read_paraphrases(config)
        texts = {text for route in config.routes.values() for text in route.examples}
        missing = len(texts - kept.keys())
        remedy = f"; {missing} examples have none, run `pointsman config augment`" if missing else ""
        found.append(f"augment: {sum(map(len, kept.values()))} paraphrases of {len(kept)} examples{remedy}")
        found += [f"  {text[:SHOWN]!r}: {'; '.join(kept[text])}" for text in kept]
    return found


def check_route(route: Any, models: Collection[str]) -> Iterator[Problem]:
    """Find unknown models and strategies of a route, and options that its strategy lacks.

    Places are inside the route.
    """
    wanted, strategy = _mapping(route).get("models"), _mapping(route).get("strategy", DEFAULT_STRATEGY)
    for field in ("models", "fallbacks"):
        for index, model in enumerate(_list(_mapping(route).get(field))):
            if isinstance(model, str) and model not in models:
                yield (field, index), not_one_of(model, "model", models)
    if isinstance(strategy, str) and strategy not in strategies():
        yield ("strategy",), not_one_of(strategy, "strategy", strategies())
    elif isinstance(strategy, str) and isinstance(wanted, list | tuple):
        yield from find_option_problems(strategy, _mapping(route).get("options"), wanted)


def check_routing(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with the rules, patterns and examples of routes, and with the llm classifier."""
    routes = _mapping(data.get("routes"))
    rules: dict[frozenset[Any], str] = {}
    examples: dict[str, str] = {}
    for name, route in routes.items():
        yield from _check_examples(str(name), _mapping(route).get("examples"), examples)
        for place, when in _rules(_mapping(route).get("when")):
            yield from _check_rule(str(name), ("routes", name, "when", *place), when, rules)
    yield from _check_patterns(routes)
    classifier, models = _mapping(data.get("classifier")), _mapping(data.get("models"))
    for asked in ("llm", "augment"):
        model = _mapping(classifier.get(asked)).get("model")
        if isinstance(model, str) and model not in models:
            yield ("classifier", asked, "model"), not_one_of(model, "model", models)
    if classifier.get("llm") and "none" in routes:
        yield ("routes", "none"), "none is what the llm classifier says where no route fits; use another name"


def _check_examples(route: str, examples: Any, seen: dict[str, str]) -> Iterator[Problem]:
    """Find examples that stand under two routes. `seen`: the route of each earlier example."""
    for index, text in enumerate(_list(examples)):
        if isinstance(text, str) and text.strip():
            other = seen.setdefault(" ".join(unicodedata.normalize("NFC", text).casefold().split()), route)
            if other != route:
                problem = f"is an example of route {other!r} as well, which contradicts this one; leave one out"
                yield ("routes", route, "examples", index), problem


def _rules(when: Any) -> Iterator[tuple[tuple[int, ...], Mapping[str, Any]]]:
    """Each rule with its place: one mapping may stand without a list."""
    if isinstance(when, Mapping):
        yield (), when
    for index, rule in enumerate(_list(when)):
        if isinstance(rule, Mapping):
            yield (index,), rule


def _check_rule(route: str, place: Loc, when: Mapping[Any, Any], seen: dict[frozenset[Any], str]) -> Iterator[Problem]:
    """Find invalid conditions, and rules equal to one of another route. `seen`: the route of each earlier rule."""
    if not when:
        yield place, "has no condition, so it would always hold; default_route is for texts that no route claims"
        return
    conditions = []
    problems: list[Problem] = []
    for name, value in when.items():
        if isinstance(name, str):
            try:
                conditions.append(read_condition(name, value))
            except ValueError as error:
                problems.append(((*place, name), str(error)))
    yield from problems
    if len(conditions) < len(when):
        return
    other = seen.setdefault(frozenset(conditions), route)
    if other != route:
        yield place, f"contradicts a rule of route {other!r}: the conditions are the same; leave one out, or add to one"


def _check_patterns(routes: Mapping[Any, Any]) -> Iterator[Problem]:
    patterns = [
        (("routes", name, "patterns", index), pattern)
        for name, route in routes.items()
        for index, pattern in enumerate(_list(_mapping(route).get("patterns")))
    ]
    if not patterns:
        return
    from tasks.routing.classify.patterns import (  # noqa: PLC0415 - loads the engine, which few configurations need
        MOST_PATTERNS,
        compile_pattern,
    )

    for place, pattern in patterns:
        if isinstance(pattern, str):
            try:
                compile_pattern(pattern)
            except ValueError as error:
                yield place, str(error)
    if len(patterns) > MOST_PATTERNS:
        yield ("routes",), f"hold {len(patterns):,} patterns, the limit is {MOST_PATTERNS:,}; join some with |"


def not_one_of(name: str, kind: str, known: Iterable[object]) -> str:
    """The problem of an unknown name."""
    return f"{name!r} is not a {kind}; allowed: {', '.join(sorted(map(str, known))) or 'none is configured'}"


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Collection[Any]:
    return value if isinstance(value, list | tuple) else ()
