"""What the vote of a model weighs.

A vote of a model that is right with chance p, and wrong in one of K − 1 ways that are as likely each, is evidence for
its answer of ln(p · (K − 1) / (1 − p)): with these weights the heaviest ballot is the likeliest (Nitzan and Paroush,
"Optimal Decision Rules in Uncertain Dichotomous Choice Situations", 1982, for K = 2). Only their proportions matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ANSWERS", "STEP", "Scale", "rounded", "scaled", "weights_of"]

#: Weights are multiples of this: sums of them are exact in binary, so that the same votes have the same sum in
#: whichever order they come in, and a tie is a tie.
STEP = 1 / 1024
#: Answers to choose from where nobody knows: of two that are wrong, one time in four they are the same. That is more
#: often than free answers of different models coincide by chance, as models err alike: on GSM8K 8 to 21 in a hundred.
ANSWERS = 5
#: No measurement is so good that it makes a voter infallible, or always wrong.
SUREST = 0.99


def rounded(weight: float) -> float:
    """The nearest weight on the scale."""
    return round(weight / STEP) * STEP


@dataclass(frozen=True, slots=True)
class Scale:
    """The weights of a vote: those of the models that are named, and that of every other."""

    named: Mapping[str, float] = field(default_factory=dict)
    other: float = 1.0

    def of(self, model: str) -> float:
        return rounded(self.named.get(model, self.other))

    @property
    def heaviest(self) -> float:
        return rounded(max(self.other, *self.named.values())) if self.named else rounded(self.other)

    @property
    def even(self) -> bool:
        """Whether every vote weighs 1."""
        return all(rounded(weight) == 1 for weight in (self.other, *self.named.values()))


def weights_of(accuracies: Mapping[str, float], *, answers: int = ANSWERS) -> Mapping[str, float]:
    """The weight of each model by how often it is right, from 0 to 1, on tasks with so many `answers` to choose from.

    The mean weight is 1, what a model weighs of which nothing is known. Who is right no more often than by chance
    weighs 0; where that holds for all of them, all weigh 1: nothing tells them apart.
    """
    sure = {model: min(max(accuracy, 1 - SUREST), SUREST) for model, accuracy in accuracies.items()}
    odds = {model: math.log(share * (max(answers, 2) - 1) / (1 - share)) for model, share in sure.items()}
    return scaled(odds)


def scaled(weights: Mapping[str, float]) -> Mapping[str, float]:
    """The weights in proportion, none below 0, with a mean of 1; all 1 where none is above 0."""
    above = {model: max(weight, 0.0) for model, weight in weights.items()}
    total = math.fsum(above.values())
    if not total:
        return dict.fromkeys(above, 1.0)
    return {model: rounded(weight * len(above) / total) for model, weight in above.items()}
