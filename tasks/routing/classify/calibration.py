"""How sure a classifier may be: weights of its experts and its threshold, from texts that its fits had not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.routing.classify.experts import Experts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tasks.routing.classify.experts import Problem
    from tasks.routing.classify.features import Floats, Ints, Row

__all__ = ["Calibration", "softmax"]

#: Rows up to which every example is left out of a fit once; above, a fifth of them is enough to calibrate on.
FEW = 400
#: Rows up to which two fits are made for the calibration; one suffices above.
SOME = 3_000
#: A fifth of the routes, and of the examples of the others, is left out of a fit.
PARTS = 5
#: Examples that the weights are sought on; more only cost time.
ENOUGH = 2_000
#: Divisors' inverses that are tried: of the words' scores, alone and beside vectors (0: words are left out), …
WORDS_ALONE = np.geomspace(0.2, 60.0, 80)
WORDS_BESIDE = np.concatenate([[0.0], np.geomspace(0.25, 8.0, 11)])
#: … and of the vectors' logits.
VECTORS = np.geomspace(0.05, 20.0, 40)
#: Strangers expected for each request that belongs to a route, when the threshold is chosen and texts out of scope are
#: given. With 100 of them CLINC150's `val` and `oos_val` keep 93% of what belongs, and refuse 90% of what does not.
STRANGERS = 1 / 3
#: The same where the routes left out are all there is, for few, some and many examples. With many they are harder to
#: refuse than most strangers, for routes of one configuration are alike: 1/3 refused 96% on CLINC150 but left 87% of
#: what belongs, 1/8 refuses 94% and leaves 91%. With 5 examples of each of 3 to 10 routes, 1/2 refuses 85 to 92%.
STRANGERS_LEFT_OUT = (1 / 2, 1 / 3, 1 / 8)
#: Texts out of scope that take the place of the routes left out; fewer are too few to choose a threshold by.
ENOUGH_OUTSIDE = 20
#: Gains that differ by less are as good: with 100 strangers their standard error is about that.
AS_GOOD = 0.01
#: The threshold is at least this many times 1 / routes, the confidence in a text of which nothing is known.
LEAST_OVER_CHANCE = 1.25


@dataclass(frozen=True, slots=True)
class Calibration:
    """`weights` multiply the experts' scores before the softmax; below `threshold` a confidence is too low.

    `accuracy` is the share of the examples left out that was classified right, abstention apart.
    """

    weights: tuple[float, ...]
    threshold: float
    accuracy: float

    def confidences(self, scores: Floats) -> Floats:
        """Of scores (experts, rows, routes): softmax of their weighted sum, (rows, routes)."""
        return softmax(np.tensordot(np.array(self.weights, np.float32), scores, 1))

    @classmethod
    def of(cls, problem: Problem, outside: Sequence[Row] = (), outside_vectors: Floats | None = None) -> Calibration:
        """Fit on parts of `problem` and look at the rest.

        The weights minimise the negative log-likelihood of examples left out (Guo et al., "On Calibration of Modern
        Neural Networks", 2017; with two experts, a product of experts). The threshold maximises (right − wrong) /
        examples − expected × accepted / strangers: a wrong route costs what a right one gains. Strangers, requests
        that belong nowhere, are `outside`, or else the examples of routes that were left out of a fit as a whole.
        """
        known: list[_Seen] = []
        strange: list[_Seen] = []
        beyond = None
        for held, left_out in _rounds(problem):
            experts = Experts.fit(problem.part(~(held | left_out)))
            present = np.bincount(problem.labels[~(held | left_out)], minlength=problem.routes) > 0
            for chosen, into in ((held, known), (left_out, strange)):
                if chosen.any():
                    part = problem.part(chosen)
                    into.append(_Seen(experts.scores(part.rows, part.vectors), part.labels, present))
            if beyond is None and len(outside):
                nothing = np.zeros(len(outside), np.intp)
                beyond = _Seen(experts.scores(outside, outside_vectors), nothing, present)
        weights = _weights(known, len(problem.labels))
        p = [seen.confidences(weights) for seen in known]
        right = np.concatenate([one.argmax(1) == seen.labels for one, seen in zip(p, known, strict=True)])
        confidence = np.concatenate([one.max(1) for one in p])
        strangers = np.zeros(0, np.float32)
        rows = len(problem.labels)
        expected = STRANGERS_LEFT_OUT[(rows > FEW) + (rows > SOME)]
        if beyond is not None and (len(outside) >= ENOUGH_OUTSIDE or not strange):
            strangers, expected = beyond.confidences(weights).max(1), STRANGERS
        elif strange:
            strangers = np.concatenate([seen.confidences(weights).max(1) for seen in strange])
        threshold = _threshold(confidence, right, strangers, expected, problem.routes)
        return cls(tuple(map(float, weights)), threshold, float(right.mean()))


@dataclass(frozen=True, slots=True)
class _Seen:
    """Scores of texts by experts that were fitted without them, on the routes that are `present`."""

    scores: Floats  #: (experts, rows, routes)
    labels: Ints
    present: NDArray[np.bool_]

    def logits(self, weights: NDArray[np.float64]) -> Floats:
        found: Floats = np.tensordot(weights.astype(np.float32), self.scores, 1)
        found[:, ~self.present] = -np.inf
        return found

    def confidences(self, weights: NDArray[np.float64]) -> Floats:
        return softmax(self.logits(weights))

    def first(self, rows: int) -> _Seen:
        """An even selection of at most so many rows."""
        every = -(-len(self.labels) // rows)
        return _Seen(self.scores[:, ::every], self.labels[::every], self.present)


def _rounds(problem: Problem) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """What is left out of each fit: (examples, all examples of some routes). All rows for few, a fifth for many."""
    labels, rows = problem.labels, len(problem.labels)
    rank = np.zeros_like(labels)
    for label in range(problem.routes):
        own = labels == label
        rank[own] = np.arange(own.sum())
    nobody = np.zeros(rows, bool)
    # Two routes are told apart by what each is not: without one there is nothing to learn.
    groups = min(PARTS, problem.routes) if problem.routes > 2 else 0
    if rows <= FEW:
        folds = 2 * PARTS if rows <= 100 else PARTS
        for fold in range(folds):
            held = (rank + labels) % folds == fold
            if held.any():
                yield held, nobody
        for group in range(groups):
            yield nobody, labels % groups == group
        return
    for turn in range(2 if rows <= SOME else 1):
        strangers = labels % groups == turn if groups else nobody
        yield ~strangers & ((rank + labels) % PARTS == turn), strangers


def _weights(known: list[_Seen], rows: int) -> NDArray[np.float64]:
    """The weights of least loss. Next to no doubt is left where all few examples were right, so a little is added."""
    doubt = 1 / (rows + 2)
    share = [seen.first(max(1, ENOUGH // len(known))) for seen in known]
    experts = len(known[0].scores)
    grid = (
        [np.array([words]) for words in WORDS_ALONE]
        if experts == 1
        else [np.array([words, vectors]) for words in WORDS_BESIDE for vectors in VECTORS]
    )
    losses = [sum(_loss(seen, weights, doubt) for seen in share) for weights in grid]
    return grid[int(np.argmin(losses))]


def _loss(seen: _Seen, weights: NDArray[np.float64], doubt: float) -> float:
    """The sum of the negative log-likelihoods, a share `doubt` of it that of all routes alike."""
    logits = seen.logits(weights)[:, seen.present]
    logits -= logits.max(1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    column = np.cumsum(seen.present) - 1
    # A route may have lost its only example to the part left out.
    there = seen.present[seen.labels]
    picked = log_p[there, column[seen.labels[there]]]
    return float(-(1 - doubt) * picked.sum() - doubt * log_p.mean(1).sum())


def _threshold(confidence: Floats, right: NDArray[np.bool_], strangers: Floats, expected: float, routes: int) -> float:
    """Find the cut with the highest gain; of those as good the middle, and never so low that a blank vector passes."""
    scores = np.unique(np.concatenate([confidence, strangers, [1 / routes, 1.0]]))
    cuts = (scores[:-1] + scores[1:]) / 2
    gain = _at_least(confidence[right], cuts) / len(right) - _at_least(confidence[~right], cuts) / len(right)
    if len(strangers):
        gain -= expected * _at_least(strangers, cuts) / len(strangers)
    best = cuts[gain >= gain.max() - AS_GOOD]
    middle = best[np.argmin(np.abs(best - (best[0] + best[-1]) / 2))]
    return float(max(middle, LEAST_OVER_CHANCE / routes))


def _at_least(values: Floats, cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of `values` reach each cut."""
    return (len(values) - np.searchsorted(np.sort(values), cuts)).astype(np.float64)


def softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    p: Floats = shifted / shifted.sum(-1, keepdims=True)
    return p
