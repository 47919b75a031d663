"""How sure a classifier may be: weights of its experts and its threshold, from texts that no fit had seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tasks.routing.classify.experts import Experts, TrainingRows, softmax
from tasks.routing.classify.features import Floats, Ints

#: Rows up to which two fits are made for the calibration of many examples; one suffices above.
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
#: The same where strangers are the routes left out, for some and many examples. With many they are harder to refuse
#: than most strangers, for routes of one configuration are alike: 1/3 refused 96% on CLINC150 but left 87% of the
#: requests in scope, 1/8 refuses 94% and leaves 91%.
STRANGERS_LEFT_OUT = (1 / 3, 1 / 8)
#: The same where strangers were fitted.
STRANGERS_OF_FEW = 1.0
#: Texts out of scope that replace the routes left out; fewer are too few to choose a threshold by.
ENOUGH_OUTSIDE = 20
#: Gains that differ by less are equal: with 100 strangers their standard error is about that.
AS_GOOD = 0.01
#: The threshold is at least this many times 1 / routes, the confidence in a text of which nothing is known.
LEAST_OVER_CHANCE = 1.25


@dataclass(frozen=True, slots=True)
class Calibration:
    """`weights` multiply the experts' scores before the softmax; a confidence below `threshold` is too low.

    From `sure` on no held-out text was taken to a wrong route. `accuracy` is the share of the held-out examples that
    was classified right, abstention apart.
    """

    weights: tuple[float, ...]
    threshold: float
    accuracy: float
    sure: float

    def confidences(self, scores: Floats) -> Floats:
        """Softmax of the weighted sum of scores (experts, rows, classes): (rows, classes)."""
        return softmax(np.tensordot(np.array(self.weights, np.float32), scores, 1))

    @classmethod
    def of(cls, training: TrainingRows) -> Calibration:
        """Fit to parts of `training` and look at the rest.

        The weights minimise the cross-entropy of held-out examples (Guo et al., "On Calibration of Modern Neural
        Networks", 2017; with two experts, a product of experts) and of strangers, requests that belong to no route:
        these shall be taken for strangers, or, where none were fitted, get the same confidence for all routes. The
        threshold maximises (right − wrong) / examples − expected × accepted / strangers: a wrong route costs what a
        right one gains. Strangers are the rows of no route, and the examples of routes that were left out of a fit;
        where examples are many, the former alone if they are enough, else the latter.
        """
        known: list[_HeldOut] = []
        strange: list[_HeldOut] = []
        near: list[_HeldOut] = []
        for held, left_out in _rounds(training):
            fitted = ~(held | left_out)
            experts = Experts.fit(training.part(fitted))
            # A regression of few examples has a score for a route without examples, too: the lowest.
            present = np.bincount(training.labels[fitted], minlength=training.classes) > -int(training.fits_strangers)
            for chosen, into in ((held & training.own, known), (held & ~training.own, strange), (left_out, near)):
                if chosen.any():
                    part = training.part(chosen)
                    labels = part.labels if into is known else np.full_like(part.labels, training.routes)
                    into.append(_HeldOut(experts.scores(part.rows, part.vectors), labels, present))
        expected, kinds = STRANGERS_OF_FEW, [kind for kind in (strange, near) if kind]
        if not training.fits_strangers:
            enough = np.count_nonzero(~training.own) >= ENOUGH_OUTSIDE or not near
            expected = STRANGERS if enough else STRANGERS_LEFT_OUT[int(np.count_nonzero(training.own) > SOME)]
            kinds = [kind for kind in ([strange] if enough else [near]) if kind]
        weights = _find_weights(known, kinds, expected, 0.0 if training.fits_strangers else 1.0)
        p = np.concatenate([held.confidences(weights)[:, : training.routes] for held in known])
        right = p.argmax(1) == np.concatenate([held.labels for held in known])
        strangers = [
            np.concatenate([held.confidences(weights)[:, : training.routes].max(1) for held in kind]) for kind in kinds
        ]
        # Where no strangers were fitted, an empty text has the confidence of chance.
        least = 0.0 if training.fits_strangers else LEAST_OVER_CHANCE / training.routes
        threshold = max(least, _find_threshold(p.max(1), right, strangers, expected))
        wrong = np.concatenate([p.max(1)[~right], *strangers, [threshold]])
        return cls(tuple(map(float, weights)), threshold, float(right.mean()), float(wrong.max()))


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Scores of texts by experts that were fitted without them, on the classes that are `present`."""

    scores: Floats  #: (experts, rows, classes)
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
        """The sum over all rows; of each target a share `uniform` is that of all classes alike."""
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
    labels, own = training.labels, training.own
    part = (training.ranks + labels) % PARTS
    none = np.zeros(len(labels), bool)
    # A fit needs two routes: of two none can be left out.
    groups = min(PARTS, training.routes) if training.routes > 2 else 0
    if training.fits_strangers:
        for fold in range(PARTS):
            held = part == fold
            if (held & own).any():
                yield held, none
        for group in range(groups):
            yield none, own & (labels % groups == group)
        return
    for fold in range(2 if np.count_nonzero(own) <= SOME else 1):
        left_out = own & (labels % groups == fold) if groups else none
        yield ~own | ~left_out & (part == fold), left_out


def _find_weights(
    known: list[_HeldOut], kinds: list[list[_HeldOut]], expected: float, uniform: float
) -> NDArray[np.float64]:
    """The ratio of the weights by the held-out examples alone, then their scale by the strangers of all kinds, too.

    `uniform` is the share of all classes alike in the target of strangers.
    """
    known = [held.first(max(1, ENOUGH // len(known))) for held in known]
    kinds = [[held.first(max(1, ENOUGH // len(kind))) for held in kind] for kind in kinds]
    total = sum(len(held.labels) for held in known)
    # Where all of few examples were right, no doubt would be left: a little is added.
    doubt = 1 / (total + 2)

    def loss(weights: NDArray[np.float64]) -> float:
        lost = sum(held.cross_entropy(weights, doubt) for held in known)
        for kind in kinds:
            share = expected * total / len(kinds) / sum(len(held.labels) for held in kind)
            lost += share * sum(held.cross_entropy(weights, max(doubt, uniform)) for held in kind)
        return lost

    tried = (WORDS_ALONE,) if len(known[0].scores) == 1 else (WORDS_BESIDE, VECTORS)
    grid = list(map(np.array, product(*tried)))
    losses = [sum(held.cross_entropy(weights, doubt) for held in known) for weights in grid]
    best = grid[int(np.argmin(losses))]
    return np.asarray(min((scale * best for scale in SCALES), key=loss))


def _find_threshold(
    confidence: Floats, right: NDArray[np.bool_], strangers: Sequence[Floats], expected: float
) -> float:
    """The cut with the highest gain; of equal ones the middle."""
    scores = np.unique(np.concatenate([confidence, *strangers, [0.0, 1.0]]))
    cuts = (scores[:-1] + scores[1:]) / 2
    gain = (_count_at_least(confidence[right], cuts) - _count_at_least(confidence[~right], cuts)) / len(right)
    for kind in strangers:
        gain -= expected / len(strangers) * _count_at_least(kind, cuts) / len(kind)
    best = cuts[gain >= gain.max() - AS_GOOD]
    return float(best[np.argmin(np.abs(best - (best[0] + best[-1]) / 2))])


def _count_at_least(values: Floats, cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of `values` reach each cut."""
    return (len(values) - np.searchsorted(np.sort(values), cuts)).astype(np.float64)
