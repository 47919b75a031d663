"""The two linear models that are fitted to examples: one on words, and with an encoder one on vectors.

Few examples are fitted by ridge regression, in milliseconds, beside strangers: texts of no route.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tasks.routing.classify.features import Floats, Ints, Row

#: Cost of a margin that is missed, in the sense of scikit-learn's `LinearSVC`: flat from 1 to 5 on CLINC150.
COST = 1.0
#: Times that every row is visited; at 8 the accuracy on CLINC150 was within 0.1% of that at 20.
PASSES = 8
#: Passes of small problems, which cost nothing.
PASSES_OF_FEW = 25
#: Rows up to which a problem is small.
FEW = 2_000
#: Steps of the regression on vectors, and rows of a step: enough for 15,000 rows of 150 routes; fewer rows need fewer.
STEPS, STEPS_A_ROW, LEAST_STEPS, BATCH = 600, 4, 150, 64
#: First step length of Adam; it falls to 0 linearly.
RATE = 1e-3
#: Decay of Adam's two averages. 0.99 instead of 0.999: there are only some hundreds of steps.
BETA1, BETA2 = 0.9, 0.99
#: Share of a vector's numbers that are left out at each step: the fit cannot know its examples by heart.
DROPOUT = 0.5

#: Penalties of the regression where examples are few: flat from 0.3 to 1, and from 0.1 to 1.
PENALTY_WORDS, PENALTY_VECTORS = 1.0, 0.5


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Examples as numbers: sparse `rows` over `features` columns, dense `vectors` or None.

    `labels` are below `routes`, and that number for strangers, which are a class of their own if `fits_strangers`.
    Rows of one label and `rank` are held out together.
    """

    rows: Sequence[Row]
    vectors: Floats | None
    labels: Ints
    ranks: Ints
    features: int
    routes: int
    fits_strangers: bool

    @property
    def classes(self) -> int:
        """The routes, and the class of strangers if it is fitted."""
        return self.routes + self.fits_strangers

    @property
    def own(self) -> NDArray[np.bool_]:
        """Whether each row belongs to a route."""
        return self.labels < self.routes

    def part(self, chosen: NDArray[np.bool_]) -> TrainingRows:
        """The rows that are `chosen`, for as many routes as before."""
        rows = [self.rows[at] for at in np.flatnonzero(chosen).tolist()]
        vectors = None if self.vectors is None else self.vectors[chosen]
        return replace(self, rows=rows, vectors=vectors, labels=self.labels[chosen], ranks=self.ranks[chosen])

    def weight(self) -> Floats:
        """The weight of each row, 1 on average: inverse to the size of its route.

        The number of examples that a route happens to have says nothing about its share of the requests.
        """
        size = np.bincount(self.labels, minlength=self.classes)
        weight = len(self.labels) / (np.count_nonzero(size) * size[self.labels])
        return np.asarray(weight, np.float32)


@dataclass(frozen=True, slots=True)
class Experts:
    """Weights (inputs + 1, classes), whose last row is the bias. The scores of the two are of unlike scales."""

    words: Floats
    vectors: Floats | None

    @classmethod
    def fit(cls, training: TrainingRows) -> Experts:
        vectors = training.vectors
        if not training.fits_strangers:
            return cls(_fit_words(training), None if vectors is None else _fit_vectors(training, vectors))
        words = np.zeros((len(training.rows), training.features), np.float32)
        for row, (columns, values) in zip(words, training.rows, strict=True):
            row[columns] = values
        return cls(
            _fit_few(training, words, PENALTY_WORDS),
            None if vectors is None else _fit_few(training, vectors, PENALTY_VECTORS),
        )

    def scores(self, rows: Sequence[Row], vectors: Floats | None) -> Floats:
        """(experts, rows, classes): of the words, then of the vectors."""
        of_words = np.stack([values @ self.words[columns] + self.words[-1] for columns, values in rows])
        if self.vectors is None or vectors is None:
            return of_words[None]
        return np.stack([of_words, vectors @ self.vectors[:-1] + self.vectors[-1]])


def _fit_few(training: TrainingRows, inputs: Floats, penalty: float) -> Floats:
    """Ridge regression of 1 for the own class and −1 for the others: minimise Σ weight · (y − f(x))² + penalty · |w|².

    Solved in its dual form, so the time is that of a system of as many equations as there are rows.
    """
    weight = training.weight()
    target = np.where(np.arange(training.classes) == training.labels[:, None], 1, -1).astype(np.float32)
    centre, mean = (np.average(values, 0, weight) for values in (inputs, target))
    own = inputs - centre
    gram = own @ own.T + np.diag(penalty / weight)
    weights = own.T @ np.linalg.solve(gram, target - mean)
    return np.vstack([weights, mean - centre @ weights]).astype(np.float32)


def _fit_words(training: TrainingRows) -> Floats:
    """Support vector machines: minimise ½|w|² + cost · Σ weight · max(0, 1 − y·f(x))², each route against all others.

    Dual coordinate descent (Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", 2008,
    algorithm 1 with the L2 loss), where one step visits a row for all routes together. Deterministic; some 40 µs a
    visit with 150 routes.
    """
    features, weight = training.features, training.weight()
    # The bias is the last feature, of value 1, as in LIBLINEAR.
    own = [(np.append(columns, features), np.append(values, np.float32(1))) for columns, values in training.rows]
    weights = np.zeros((features + 1, training.classes), np.float32)
    dual = np.zeros((len(own), training.classes), np.float32)
    soft = (0.5 / (COST * weight)).astype(np.float32)
    curvature = np.array([values @ values for _, values in own], np.float32) + soft
    order = np.random.default_rng(0)
    for _ in range(PASSES_OF_FEW if len(own) <= FEW else PASSES):
        for at in order.permutation(len(own)):
            columns, values = own[at]
            label = training.labels[at]
            touched = weights[columns]
            margin = -(values @ touched)
            margin[label] = -margin[label]
            step = (margin - np.float32(1) + soft[at] * dual[at]) / curvature[at]
            moved = np.maximum(dual[at] - step, np.float32(0))
            change = dual[at] - moved
            dual[at] = moved
            change[label] = -change[label]
            weights[columns] = touched + values[:, None] * change
    return weights


def _fit_vectors(training: TrainingRows, vectors: Floats) -> Floats:
    """Softmax regression: minimise the weighted cross-entropy by Adam (Kingma & Ba, 2015) with dropout. Deterministic.

    Inputs are centred and scaled to a root mean square of 1; the weights that are returned undo that.
    """
    centre = vectors.mean(0)
    inputs = vectors - centre
    scale = np.float32(1 / max(float(np.sqrt((inputs**2).mean())), 1e-6))
    # A column of ones stands for the bias.
    inputs = np.hstack([inputs * scale, np.ones((len(inputs), 1), np.float32)])
    rows, columns = inputs.shape
    row_weight, batch, random = training.weight(), min(rows, BATCH), np.random.default_rng(0)
    steps = max(LEAST_STEPS, min(STEPS, STEPS_A_ROW * rows))
    weights, first, second = np.zeros((3, columns, training.classes), np.float32)
    order = np.zeros(0, np.intp)
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = np.concatenate([order, random.permutation(rows)])
        chosen, order = order[:batch], order[batch:]
        kept = inputs[chosen]
        kept[:, :-1] *= (random.random((batch, columns - 1), np.float32) >= DROPOUT) * np.float32(1 / (1 - DROPOUT))
        slope = softmax(kept @ weights)
        slope[np.arange(batch), training.labels[chosen]] -= np.float32(1)
        gradient = kept.T @ (slope * (row_weight[chosen, None] / np.float32(batch)))
        first += np.float32(1 - BETA1) * (gradient - first)
        second += np.float32(1 - BETA2) * (gradient * gradient - second)
        length = np.float32(RATE * (1 - (step - 1) / steps) / (1 - BETA1**step))
        weights -= length * first / (np.sqrt(second / np.float32(1 - BETA2**step)) + np.float32(1e-8))
    scaled = weights[:-1] * scale
    return np.vstack([scaled, weights[-1] - centre @ scaled])


def softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), np.float32)
