"""Asks classifiers one by one: the first confident one decides, and the default route takes what all leave."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from tasks.routing.classify.context import ContextRules
from tasks.routing.classify.decision import Abstention, Classifier, Facts, Verdict
from tasks.routing.classify.llm import ModelClassifier, ModelRequired

#: The `classifier` of a verdict where all abstained.
DEFAULT = "default"
#: Characters of a text above which even quick classifiers are asked in a thread: a millisecond's work.
LONG = 65_536

_UNASKED = Abstention(ModelClassifier.name, "no model was asked")

#: Yields the next classifier, receives its verdict, returns the outcome.
_Asking: TypeAlias = "Generator[Classifier, Verdict | Abstention, Verdict | Abstention | ModelRequired]"


class Cascade:
    """An ordered list of classifiers and the route for texts that they all leave.

    `thresholds` are, by classifier's name, the least confidences (0 to 1) that decide, `threshold` that of the others;
    they come on top of each classifier's own calibrated abstention, and 0 leaves the matter to it. Pure: safe to share
    between threads.
    """

    name = "cascade"
    slow = True

    def __init__(
        self,
        classifiers: Sequence[Classifier | ContextRules | ModelClassifier],
        default_route: str,
        *,
        threshold: float = 0.0,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.classifiers = tuple(classifiers)
        self.default_route = default_route
        self.threshold = threshold
        self.thresholds = dict(thresholds or {})

    def classify(self, text: str, facts: Facts | None = None) -> Verdict:
        """Return the verdict of the first classifier that is confident enough, of those that need no model's call.

        When all abstain: `default_route` with classifier ``default`` and confidence 0.0. Its `reason` always says who
        abstained before and why, in the order asked. It never raises for what a text or its metadata contains.
        """
        stated = self.consider(text, facts, answer=_UNASKED)
        assert isinstance(stated, Verdict)
        return stated

    def consider(
        self, text: str, facts: Facts | None = None, *, answer: Verdict | Abstention | None = None
    ) -> Verdict | ModelRequired:
        """As `classify`, or `ModelRequired` where a model has to be asked and its `answer` to this text is missing."""
        return self._outcome(_ask(self._asking(facts, answer), text))

    async def decide(
        self, text: str, facts: Facts | None = None, *, answer: Verdict | Abstention | None = None
    ) -> Verdict | ModelRequired:
        """As `consider`, without keeping the event loop: what is slow, or reads a long text, runs in a thread."""
        asking = self._asking(facts, answer)
        stated: Verdict | Abstention | None = None
        while True:
            try:
                one = next(asking) if stated is None else asking.send(stated)
            except StopIteration as end:
                return self._outcome(end.value)
            stated = await asyncio.to_thread(one.judge, text) if one.slow or len(text) > LONG else one.judge(text)

    def judge(self, text: str) -> Verdict | Abstention:
        """As `classify`, but without the default route: a cascade is a classifier and can stand inside another."""
        stated = _ask(self._asking(None, _UNASKED), text)
        assert not isinstance(stated, ModelRequired)
        return stated

    def _outcome(self, stated: Verdict | Abstention | ModelRequired) -> Verdict | ModelRequired:
        if isinstance(stated, Abstention):
            return Verdict(self.default_route, DEFAULT, 0.0, f"default route: {stated.reason}")
        return stated

    def _asking(self, facts: Facts | None, answer: Verdict | Abstention | None) -> _Asking:
        abstained: list[str] = []
        for classifier in self.classifiers:
            if not isinstance(classifier, ModelClassifier):
                given = yield classifier.given(facts or Facts()) if isinstance(classifier, ContextRules) else classifier
            elif answer is None:
                return ModelRequired(classifier, "; ".join(abstained))
            else:
                given = answer
            least = self.thresholds.get(classifier.name, self.threshold)
            if isinstance(given, Verdict) and given.confidence >= least:
                return replace(given, reason="; ".join(filter(None, [given.reason, *abstained])))
            if isinstance(given, Verdict):
                why = f"{given.route!r} with confidence {given.confidence:.2f}, below {least:.2f}"
                abstained.append(f"{given.classifier} said {why}")
            else:
                abstained.append(f"{given.classifier} abstained ({given.reason})")
        return Abstention(self.name, "; ".join(abstained) or "no classifier is configured")


def _ask(asking: _Asking, text: str) -> Verdict | Abstention | ModelRequired:
    """Run the generator, each classifier in this thread."""
    stated: Verdict | Abstention | None = None
    while True:
        try:
            one = next(asking) if stated is None else asking.send(stated)
        except StopIteration as end:
            outcome: Verdict | Abstention | ModelRequired = end.value
            return outcome
        stated = one.judge(text)
