"""What is fitted on examples: an expert on words, and with an encoder one on vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.routing.classify.linear import Linear
from tasks.routing.classify.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tasks.routing.classify.features import Floats, Ints, Row

__all__ = ["Experts", "Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Examples as numbers: sparse `rows` over `features` columns, dense `vectors` or None, `labels` below `routes`."""

    rows: Sequence[Row]
    vectors: Floats | None
    labels: Ints
    features: int
    routes: int

    def part(self, chosen: NDArray[np.bool_]) -> Problem:
        """The rows that are `chosen`, for as many routes as before."""
        rows = [self.rows[at] for at in np.flatnonzero(chosen).tolist()]
        vectors = None if self.vectors is None else self.vectors[chosen]
        return Problem(rows, vectors, self.labels[chosen], self.features, self.routes)

    def weight(self) -> Floats:
        """Of each row, 1 on average: inverse to the size of its route.

        The number of examples that a route happens to have says nothing about its share of the requests.
        """
        size = np.bincount(self.labels, minlength=self.routes)
        weight = len(self.labels) / (np.count_nonzero(size) * size[self.labels])
        found: Floats = weight.astype(np.float32)
        return found


@dataclass(frozen=True, slots=True)
class Experts:
    """Fitted on one problem. Their scores are of unlike scales: the calibration weighs them."""

    linear: Linear
    network: Network | None

    @classmethod
    def fit(cls, problem: Problem) -> Experts:
        weight = problem.weight()
        linear = Linear.fit(problem.rows, problem.labels, weight, features=problem.features, routes=problem.routes)
        if problem.vectors is None:
            return cls(linear, None)
        return cls(linear, Network.fit(problem.vectors, problem.labels, weight, routes=problem.routes))

    def scores(self, rows: Sequence[Row], vectors: Floats | None) -> Floats:
        """(experts, rows, routes): of the words, then of the vectors."""
        of_words = np.stack([self.linear.scores(row) for row in rows])
        if self.network is None or vectors is None:
            return of_words[None]
        found: Floats = np.stack([of_words, self.network.logits(vectors)])
        return found
