"""How sure a classifier may be: weights of its experts and its threshold, from texts that no fit had seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product

import numpy as np
from numpy.typing import NDArray

from tasks.routing.classify.experts import Experts, TrainingRows, softmax
from tasks.routing.classify.features import Floats, Ints, Row

#: Rows up to which every example is held out of a fit once; above, a fifth of them is enough to calibrate on.
FEW = 400
#: Rows up to which two fits are made for the calibration; one suffices above.
SOME = 3_000
#: A fifth of the examples, and all examples of a fifth of the routes, is held out of a fit.
PARTS = 5
#: Texts that the weights are sought on; more only cost time.
ENOUGH = 2_000
#: Weights that are tried: of the words' scores, alone and beside vectors (0: words are left out), …
WORDS_ALONE = np.geomspace(0.2, 60.0, 80)
WORDS_BESIDE = np.concatenate([[0.0], np.geomspace(0.25, 8.0, 11)])
#: … and of the vectors' logits.
VECTORS = np.geomspace(0.05, 20.0, 40)
#: Scales of both that are tried with the strangers.
SCALES = np.geomspace(0.1, 1.0, 20)
#: Strangers expected for each request that belongs to a route, where texts out of scope are given. With 100 of them
#: CLINC150's `val` and `oos_val` keep 93% of the requests in scope, and refuse 90% of the others.
STRANGERS = 1 / 3
#: The same where strangers are the routes left out, for few, some and many examples. With many they are harder to
#: refuse than most strangers, for routes of one configuration are alike: 1/3 refused 96% on CLINC150 but left 87% of
#: the requests in scope, 1/8 refuses 94% and leaves 91%. With 5 examples of each of 3 to 10 routes, 1/2 refuses 85 to
#: 92%.
STRANGERS_LEFT_OUT = (1 / 2, 1 / 3, 1 / 8)
#: Texts out of scope that replace the routes left out; fewer are too few to choose a threshold by.
ENOUGH_OUTSIDE = 20
#: Gains that differ by less are equal: with 100 strangers their standard error is about that.
AS_GOOD = 0.01
#: The threshold is at least this many times 1 / routes, the confidence in a text of which nothing is known.
LEAST_OVER_CHANCE = 1.25


@dataclass(frozen=True, slots=True)
class Calibration:
    """`weights` multiply the experts' scores before the softmax; a confidence below `threshold` is too low.

    `accuracy` is the share of the held-out examples that was classified right, abstention apart.
    """

    weights: tuple[float, ...]
    threshold: float
    accuracy: float

    def confidences(self, scores: Floats) -> Floats:
        """Softmax of the weighted sum of scores (experts, rows, routes): (rows, routes)."""
        return softmax(np.tensordot(np.array(self.weights, np.float32), scores, 1))

    @classmethod
    def of(
        cls, training: TrainingRows, outside: Sequence[Row] = (), outside_vectors: Floats | None = None
    ) -> Calibration:
        """Fit to parts of `training` and look at the rest.

        The weights minimise the cross-entropy of held-out examples (Guo et al., "On Calibration of Modern Neural
        Networks", 2017; with two experts, a product of experts) and of strangers, which shall get the same confidence
        for all routes. The threshold maximises (right − wrong) / examples − expected × accepted / strangers: a wrong
        route costs what a right one gains. Strangers, requests that belong to no route, are `outside`, or else the
        examples of routes that were left out of a fit.
        """
        known: list[_HeldOut] = []
        strange: list[_HeldOut] = []
        beyond: list[_HeldOut] = []
        for held, left_out in _rounds(training):
            fitted = ~(held | left_out)
            experts = Experts.fit(training.part(fitted))
            present = np.bincount(training.labels[fitted], minlength=training.routes) > 0
            for chosen, into in ((held, known), (left_out, strange)):
                if chosen.any():
                    part = training.part(chosen)
                    into.append(_HeldOut(experts.scores(part.rows, part.vectors), part.labels, present))
            if len(outside) and not beyond:
                scores = experts.scores(outside, outside_vectors)
                beyond.append(_HeldOut(scores, np.zeros(len(outside), np.intp), present))
        rows = len(training.labels)
        expected = STRANGERS_LEFT_OUT[(rows > FEW) + (rows > SOME)]
        if len(outside) >= ENOUGH_OUTSIDE or not strange:
            strange, expected = beyond, STRANGERS
        weights = _find_weights(known, strange, expected)
        p = [held.confidences(weights) for held in known]
        right = np.concatenate([one.argmax(1) == held.labels for one, held in zip(p, known, strict=True)])
        confidence = np.concatenate([one.max(1) for one in p])
        strangers = np.concatenate([np.zeros(0, np.float32), *(held.confidences(weights).max(1) for held in strange)])
        threshold = _find_threshold(confidence, right, strangers, expected, training.routes)
        return cls(tuple(map(float, weights)), threshold, float(right.mean()))


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Scores of texts by experts that were fitted without them, on the routes that are `present`."""

    scores: Floats  #: (experts, rows, routes)
    labels: Ints
    present: NDArray[np.bool_]

    def confidences(self, weights: NDArray[np.float64]) -> Floats:
        logits: Floats = np.tensordot(weights.astype(np.float32), self.scores, 1)
        logits[:, ~self.present] = -np.inf
        return softmax(logits)

    def first(self, rows: int) -> _HeldOut:
        """An even selection of at most so many rows."""
        every = -(-len(self.labels) // rows)
        return _HeldOut(self.scores[:, ::every], self.labels[::every], self.present)

    def cross_entropy(self, weights: NDArray[np.float64], uniform: float) -> float:
        """The sum over all rows; of each target a share `uniform` is that of all routes alike."""
        logits = np.tensordot(weights.astype(np.float32), self.scores, 1)[:, self.present]
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        total = -uniform * float(log_p.mean(1).sum())
        if uniform < 1:
            column = np.cumsum(self.present) - 1
            # A route may have lost its only example to the held-out part.
            there = self.present[self.labels]
            total -= (1 - uniform) * float(log_p[there, column[self.labels[there]]].sum())
        return total


def _rounds(training: TrainingRows) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """The rows held out of each fit: some examples of all routes, and all examples of some routes."""
    labels, rows = training.labels, len(training.labels)
    counted = defaultdict[int, Iterator[int]](count)
    rank = np.array([next(counted[label]) for label in labels])
    none = np.zeros(rows, bool)
    # A fit needs two routes: of two none can be left out.
    groups = min(PARTS, training.routes) if training.routes > 2 else 0
    if rows <= FEW:
        folds = 2 * PARTS if rows <= 100 else PARTS
        for fold in range(folds):
            held = (rank + labels) % folds == fold
            if held.any():
                yield held, none
        for group in range(groups):
            yield none, labels % groups == group
        return
    for part in range(2 if rows <= SOME else 1):
        left_out = labels % groups == part if groups else none
        yield ~left_out & ((rank + labels) % PARTS == part), left_out


def _find_weights(known: list[_HeldOut], strange: list[_HeldOut], expected: float) -> NDArray[np.float64]:
    """The ratio of the weights by the held-out examples alone, then their scale by the strangers, too."""
    known = [held.first(max(1, ENOUGH // len(known))) for held in known]
    strange = [held.first(max(1, ENOUGH // len(strange))) for held in strange]
    count, strangers = (sum(len(held.labels) for held in some) for some in (known, strange))
    # Where all of few examples were right, no doubt would be left: a little is added.
    doubt = 1 / (count + 2)
    tried = (WORDS_ALONE,) if len(known[0].scores) == 1 else (WORDS_BESIDE, VECTORS)
    grid = list(map(np.array, product(*tried)))
    losses = [sum(held.cross_entropy(weights, doubt) for held in known) for weights in grid]
    best = grid[int(np.argmin(losses))]
    share = expected * count / max(1, strangers)
    losses = [
        sum(held.cross_entropy(scale * best, doubt) for held in known)
        + share * sum(held.cross_entropy(scale * best, 1.0) for held in strange)
        for scale in SCALES
    ]
    return np.asarray(SCALES[int(np.argmin(losses))] * best)


def _find_threshold(
    confidence: Floats, right: NDArray[np.bool_], strangers: Floats, expected: float, routes: int
) -> float:
    """The cut with the highest gain; of equal ones the middle, and never so low that an empty vector passes."""
    scores = np.unique(np.concatenate([confidence, strangers, [1 / routes, 1.0]]))
    cuts = (scores[:-1] + scores[1:]) / 2
    gain = (_count_at_least(confidence[right], cuts) - _count_at_least(confidence[~right], cuts)) / len(right)
    if len(strangers):
        gain -= expected * _count_at_least(strangers, cuts) / len(strangers)
    best = cuts[gain >= gain.max() - AS_GOOD]
    middle = best[np.argmin(np.abs(best - (best[0] + best[-1]) / 2))]
    return float(max(middle, LEAST_OVER_CHANCE / routes))


def _count_at_least(values: Floats, cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of `values` reach each cut."""
    return (len(values) - np.searchsorted(np.sort(values), cuts)).astype(np.float64)
