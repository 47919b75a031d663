"""What a choice between models saves: accuracy against the share of calls that go to the strong model, or against cost.

The definitions are RouteLLM's (Ong et al. 2024, arXiv 2406.18665, §3): with `w` and `s` the accuracies of the weak and
the strong model alone, the *performance gap recovered* is ``PGR = (accuracy - w) / (s - w)``. APGR is the area below
PGR over the share of calls to the strong model, 0.5 for a coin, more for a router that knows something; CPT(x) is the
least share, in percent, at which x % of the gap are recovered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.routing.quality.choice import choose_all
from tasks.routing.quality.outcomes import Floats

#: Tradeoffs along which a curve over cost is drawn.
STEPS = 400


@dataclass(frozen=True)
class Curve:
    """Points from "always weak" to "always strong". `spent` is the share of the way between them, 0 to 1, rising.

    Between two points the truth is a straight line: a coin may decide between two settings.
    """

    spent: Floats
    #: Mean grade at each point.
    accuracy: Floats
    #: Mean grade of the weak and of the strong model alone.
    weak: float
    strong: float

    @property
    def recovered(self) -> Floats | None:
        """PGR at each point; None where the strong model isn't stronger, so that there is no gap."""
        return (self.accuracy - self.weak) / (self.strong - self.weak) if self.strong > self.weak else None

    @property
    def apgr(self) -> float | None:
        """Average performance gap recovered: the area below PGR."""
        recovered = self.recovered
        return None if recovered is None else float(np.trapezoid(recovered, self.spent))

    def cpt(self, percent: float) -> float | None:
        """The least share, in percent, at which `percent` of the gap are recovered; None where that is never."""
        recovered = self.recovered
        if recovered is None:
            return None
        wanted = percent / 100
        reached = np.flatnonzero(recovered >= wanted - 1e-12)
        if not len(reached):
            return None
        at = int(reached[0])
        if at == 0:
            return 100 * float(self.spent[0])
        low, high = recovered[at - 1], recovered[at]
        way = (wanted - low) / (high - low)
        return 100 * float(self.spent[at - 1] + way * (self.spent[at] - self.spent[at - 1]))

    def accuracy_at(self, spent: Floats) -> Floats:
        """The mean grade at these shares."""
        return np.interp(spent, self.spent, self.accuracy)


def share_curve(advantage: Floats, weak: Floats, strong: Floats) -> Curve:
    """The curve of two models: texts go to the strong one in the order of its predicted `advantage`, highest first.

    `weak` and `strong` are the grades. Texts of equal advantage come together, as a straight line: their order in the
    file says nothing.
    """
    order = np.argsort(-advantage, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(advantage[order])), len(order) - 1)
    gained = np.cumsum((strong - weak)[order])[ends] / len(order)
    return Curve(
        spent=np.concatenate([[0.0], (ends + 1) / len(order)]),
        accuracy=weak.mean() + np.concatenate([[0.0], gained]),
        weak=float(weak.mean()),
        strong=float(strong.mean()),
    )


def cost_curve(predicted: Floats, correct: Floats, costs: Floats, *, weak: int, strong: int) -> Curve | None:
    """The curve of several models, along the tradeoff between predicted quality and cost.

    `weak` and `strong` are the columns of the cheapest model and of the best single one; `spent` is the share of the
    difference of their mean costs. Settings that cost more than the strong model alone are left out, and where all cost
    less, the last accuracy holds for the rest. None where the strong model isn't the dearer one.
    """
    rows = np.arange(len(predicted))
    least, most = float(costs[:, weak].mean()), float(costs[:, strong].mean())
    if most <= least:
        return None
    differences = np.ptp(costs, axis=1)
    low, high = float(differences[differences > 0].min()) / 10, float(differences.max()) * 1e4
    points = [(0.0, float(correct[:, weak].mean()))]
    for tradeoff in np.geomspace(low, high, STEPS):
        chosen = choose_all(predicted, costs, tradeoff=float(tradeoff))
        spent = (float(costs[rows, chosen].mean()) - least) / (most - least)
        points.append((spent, float(correct[rows, chosen].mean())))
    kept = _rising([point for point in points if 0 <= point[0] <= 1])
    kept.append((1.0, kept[-1][1]))
    return Curve(
        spent=np.array([spent for spent, _ in kept]),
        accuracy=np.array([accuracy for _, accuracy in kept]),
        weak=float(correct[:, weak].mean()),
        strong=float(correct[:, strong].mean()),
    )


def _rising(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """In the order of what is spent, one point each."""
    found: dict[float, float] = {}
    for spent, accuracy in sorted(points, key=lambda point: point[0]):
        found.setdefault(round(spent, 9), accuracy)
    return list(found.items())


def oracle_gap(chosen: Floats, correct: Floats) -> float | None:
    """``(accuracy - best single) / (oracle - best single)``: what a choice recovers of what a perfect one would gain.

    `chosen` are the grades of the models that were chosen, `correct` those of all. The best single model is the one
    that is best on these very texts, which is known only afterwards. None where nothing can be gained.
    """
    best, oracle = float(correct.mean(axis=0).max()), float(correct.max(axis=1).mean())
    return (float(chosen.mean()) - best) / (oracle - best) if oracle > best else None
