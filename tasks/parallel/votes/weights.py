"""The weight of a model's vote.

If a model is right with chance p, and wrong in one of K − 1 equally likely ways, its vote is evidence for its answer of
ln(p · (K − 1) / (1 − p)). With these weights the heaviest ballot is the likeliest one (Nitzan and Paroush, "Optimal
Decision Rules in Uncertain Dichotomous Choice Situations", 1982, for K = 2). Only their proportions matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Weights are multiples of this step: their binary sums are exact, so the same votes have the same sum in every order,
#: and a tie is a tie.
STEP = 1 / 1024
#: Assumed number of possible answers if it is unknown: two wrong answers agree one time in four. Free answers of
#: different models coincide less often, though models err alike: on GSM8K 8 to 21 in a hundred.
ANSWERS = 5
#: The highest accuracy that is believed, and 1 less it the lowest: no measurement proves a voter infallible.
SUREST = 0.99


def rounded(weight: float) -> float:
    """Return the nearest multiple of `STEP`."""
    return round(weight / STEP) * STEP


@dataclass(frozen=True, slots=True)
class Scale:
    """The weights of a vote: those of the named models, and that of all others."""

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
    """Return the weight of each model by its accuracy, from 0 to 1, on tasks with so many possible `answers`.

    The mean weight is 1, the weight of an unknown model. A model that is right no more often than by chance weighs 0;
    if that holds for all models, all weigh 1.
    """
    sure = {model: min(max(accuracy, 1 - SUREST), SUREST) for model, accuracy in accuracies.items()}
    odds = {model: math.log(share * (max(answers, 2) - 1) / (1 - share)) for model, share in sure.items()}
    return scaled(odds)


def scaled(weights: Mapping[str, float]) -> Mapping[str, float]:
    """Scale weights to a mean of 1, none below 0; all are 1 if none is above 0."""
    above = {model: max(weight, 0.0) for model, weight in weights.items()}
    total = math.fsum(above.values())
    if not total:
        return dict.fromkeys(above, 1.0)
    return {model: rounded(weight * len(above) / total) for model, weight in above.items()}
