"""The cascade of a configuration: keywords, then what its examples teach, then the default route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.classify.cascade import Cascade
from tasks.classify.examples import ExampleClassifier
from tasks.classify.rules import KeywordRules

if TYPE_CHECKING:
    from tasks.classify.decision import Classifier
    from tasks.config import Config

__all__ = ["build_cascade"]


def build_cascade(config: Config) -> Cascade:
    """Fit the classifiers that the configuration has material for. Takes up to a second for hundreds of examples."""
    classifiers: list[Classifier] = []
    keywords = {name: route.keywords for name, route in config.routes.items() if route.keywords}
    if keywords:
        classifiers.append(KeywordRules(keywords))
    fitted = ExampleClassifier.fit({name: route.examples for name, route in config.routes.items() if route.examples})
    if fitted is not None:
        classifiers.append(fitted)
    return Cascade(classifiers, config.default_route)
