"""Which route a text falls into: keywords, examples, and the cascade that asks them in turn."""

from __future__ import annotations

from tasks.classify.cascade import Cascade
from tasks.classify.decision import Abstention, Classifier, Verdict
from tasks.classify.examples import ExampleClassifier
from tasks.classify.rules import KeywordRules

__all__ = [
    "Abstention",
    "Cascade",
    "Classifier",
    "ExampleClassifier",
    "KeywordRules",
    "Verdict",
]
