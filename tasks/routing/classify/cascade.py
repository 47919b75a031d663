"""Asks classifiers one by one: the first confident one decides, and the default route takes what all leave."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from tasks.routing.classify.context import ContextRules
from tasks.routing.classify.decision import Abstention, Classifier, Facts, Verdict
from tasks.routing.classify.llm import ModelClassifier, ModelRequired

#: The `classifier` of a verdict where all abstained.
DEFAULT = "default"
#: Characters of a text above which even quick classifiers are asked in a thread: a millisecond's work.
LONG = 65_536

#: The answer of the model in a cascade that asks none.
UNASKED = Abstention(ModelClassifier.name, "no model was asked")


class Cascade:
    """An ordered list of classifiers and the route for texts that they all leave.

    `thresholds` are, by classifier's name, the least confidences (0 to 1) that decide; they come on top of each
    classifier's own calibrated abstention, and 0, that of the others, leaves the matter to it. Pure: safe to share
    between threads.
    """

    def __init__(
        self,
        classifiers: Sequence[Classifier | ContextRules | ModelClassifier],
        default_route: str,
        *,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.classifiers = tuple(classifiers)
        self.default_route = default_route
        self.thresholds = dict(thresholds or {})

    def classify(self, text: str, facts: Facts | None = None) -> Verdict:
        """As `decide`, for code without an event loop, and without a model's call."""
        verdict = asyncio.run(self.decide(text, facts, answer=UNASKED))
        assert isinstance(verdict, Verdict)
        return verdict

    async def decide(
        self, text: str, facts: Facts | None = None, *, answer: Verdict | Abstention | None = None
    ) -> Verdict | ModelRequired:
        """Return the verdict of the first classifier that is confident enough.

        `ModelRequired` where a model has to be asked and its `answer` to this text is missing. When all abstain:
        `default_route` with classifier ``default`` and confidence 0.0. The `reason` always says who abstained before
        and why, in the order asked. It never raises for what a text or its metadata contains. What is slow, or reads a
        long text, runs in a thread.
        """
        abstained: list[str] = []
        for classifier in self.classifiers:
            if isinstance(classifier, ModelClassifier):
                if answer is None:
                    return ModelRequired(classifier, "; ".join(abstained))
                given = answer
            else:
                judge = partial(classifier.judge, text)
                if isinstance(classifier, ContextRules):
                    judge = partial(classifier.judge, text, facts or Facts())
                given = await asyncio.to_thread(judge) if classifier.slow or len(text) > LONG else judge()
            least = self.thresholds.get(classifier.name, 0.0)
            if isinstance(given, Verdict) and given.confidence >= least:
                return replace(given, reason="; ".join(filter(None, [given.reason, *abstained])))
            if isinstance(given, Verdict):
                why = f"{given.route!r} with confidence {given.confidence:.2f}, below {least:.2f}"
                abstained.append(f"{given.classifier} said {why}")
            else:
                abstained.append(f"{given.classifier} abstained ({given.reason})")
        reason = "; ".join(abstained) or "no classifier is configured"
        return Verdict(self.default_route, DEFAULT, 0.0, f"default route: {reason}")
