"""Ask classifiers in turn; the first that is sure decides, and the default route takes what nobody claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.classify.decision import Abstention, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.classify.decision import Classifier

__all__ = ["Cascade"]

#: The `classifier` of a verdict that nobody reached: the default route.
DEFAULT = "default"


class Cascade:
    """An ordered list of classifiers and the route for what they all leave.

    `threshold` is the least confidence (0 to 1) that decides, on top of each classifier's own calibrated abstention; 0
    leaves the matter to them. Pure: safe to share between threads.
    """

    name = "cascade"

    def __init__(self, classifiers: Sequence[Classifier], default_route: str, *, threshold: float = 0.0) -> None:
        self.classifiers = tuple(classifiers)
        self.default_route = default_route
        self.threshold = threshold

    def classify(self, text: str) -> Verdict:
        """Return the verdict of the first classifier that is confident enough.

        When all abstain: `default_route` with classifier ``default``, confidence 0.0, and a reason that says who
        abstained and why, in the order asked. It never raises for what a text contains.
        """
        verdict = self.judge(text)
        if isinstance(verdict, Verdict):
            return verdict
        return Verdict(self.default_route, DEFAULT, 0.0, f"default route: {verdict.reason}")

    def judge(self, text: str) -> Verdict | Abstention:
        """As `classify`, but without the default route: a cascade is a classifier and can stand inside another."""
        abstained: list[str] = []
        for classifier in self.classifiers:
            said = classifier.judge(text)
            if isinstance(said, Verdict) and said.confidence >= self.threshold:
                return said
            if isinstance(said, Verdict):
                why = f"{said.route!r} with confidence {said.confidence:.2f}, below {self.threshold:.2f}"
                abstained.append(f"{said.classifier} said {why}")
            else:
                abstained.append(f"{said.classifier} abstained ({said.reason})")
        return Abstention(self.name, "; ".join(abstained) or "no classifier is configured")
