"""The cascade of a configuration: the classifiers that it has material for, in its order, then the default route."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tasks.config.config import Config
from tasks.config.routes import AUTO, LANGUAGES, Route
from tasks.routing.classify.cascade import Cascade
from tasks.routing.classify.context import ContextRules, context_rules
from tasks.routing.classify.decision import Classifier
from tasks.routing.classify.encoder import encoder_named
from tasks.routing.classify.examples import ExampleClassifier, LateClassifier
from tasks.routing.classify.llm import ModelClassifier
from tasks.routing.classify.paraphrases import read_paraphrases
from tasks.routing.classify.rules import Rules

#: Where in the state directory what was fitted is kept for the next start.
CACHE = "classifiers"


def build_cascade(config: Config, routes: tuple[str, ...] | None = None, *, cache: Path | None = None) -> Cascade:
    """Build the classifiers. The one of examples is fitted here: a second for hundreds of them, or the network.

    They distinguish `routes`, of which the first is the default route; without `routes`, all that every job may fall
    into. `cache` is a folder where what was fitted is kept for the next start; nothing is kept without.

    Raises:
        ConfigError: if the encoder of the configuration can't be used here, or gives no vectors.
    """
    known = config.routes if routes is None else _chosen(config, routes)
    default = config.default_route if routes is None else routes[0]
    found: list[Classifier | ContextRules | ModelClassifier] = []
    for name in config.classifier.order:
        if name == "context" and (rules := context_rules(config, routes)).rules:
            found.append(rules)
        elif name == "rules" and (words := _rules(known)) is not None:
            found.append(words)
        elif name == "examples":
            found += _examples(config, known, cache)
        elif name == "llm" and config.classifier.llm is not None:
            found.append(ModelClassifier(config.classifier.llm, known))
    return Cascade(found, default, thresholds=_thresholds(config))


def _chosen(config: Config, routes: tuple[str, ...]) -> dict[str, Route]:
    """In the order of the configuration: what is fitted to the same routes has the same name in the cache."""
    return {name: route for name, route in config.all_routes.items() if name in routes}


def _rules(routes: Mapping[str, Route]) -> Rules | None:
    keywords = {name: route.keywords for name, route in routes.items() if route.keywords}
    patterns = {name: route.patterns for name, route in routes.items() if route.patterns}
    languages = {name: None if route.exact else LANGUAGES[route.language] for name, route in routes.items()}
    return Rules(keywords, patterns, languages) if keywords or patterns else None


def _examples(config: Config, routes: Mapping[str, Route], cache: Path | None) -> list[Classifier]:
    """The classifier of examples: with ``auto``, one of words where it is sure, then one with the encoder."""
    # What a route says of itself is one more example.
    examples = {
        name: [*route.examples, *filter(None, [", ".join(filter(None, [route.description, *route.keywords]))])]
        for name, route in routes.items()
        if route.examples
    }
    fit = partial(ExampleClassifier.fit, examples, cache=cache, paraphrases=read_paraphrases(config))
    wanted = config.classifier.encoder if len(examples) > 1 else "none"
    if wanted != AUTO:
        return list(filter(None, [fit(encoder=encoder_named(wanted))]))
    words, encoder = fit(), encoder_named(wanted)
    if words is None or encoder is None:
        return list(filter(None, [words]))
    return [words.when_sure(), LateClassifier(words, partial(fit, encoder=encoder))]


def _thresholds(config: Config) -> dict[str, float]:
    settings = config.classifier
    least = {name: float(value) for name, value in settings.thresholds}
    return least if settings.llm is None else {**least, ModelClassifier.name: settings.llm.min_confidence}
