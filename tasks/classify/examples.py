"""A classifier fitted from the examples of a configuration: a few texts a route, no library but numpy.

Features are words, word bigrams and character n-grams (3 to 5, inside words), each family TF-IDF weighted; the model is
multinomial logistic regression. What makes it usable for routing is that it knows when to abstain: temperature and
threshold are calibrated on predictions for examples that the model had not seen, among them whole routes left out.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tasks.classify.decision import Abstention, Verdict, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["ExampleClassifier"]

Floats: TypeAlias = "NDArray[np.float32]"
Ints: TypeAlias = "NDArray[np.intp]"

#: Characters of one example that are read: examples are short requests, and a pasted document would drown them.
EXAMPLE_CHARACTERS = 2_000
#: Examples that are fitted, spread evenly over the routes: the Gram matrix has that many squared entries (36 MB).
MAX_EXAMPLES = 3_000
#: Features that are kept, the most frequent first: bounds the weights (features × routes × 4 bytes).
MAX_FEATURES = 60_000
#: Weights of words, bigrams and character n-grams in the unit vector of a text; found on CLINC150's `train` and `val`.
FAMILY_WEIGHTS = np.array([1.0, 0.5, 1.0], np.float32) / np.float32(1.5)
#: Inverse strength of the L2 penalty, in the sense of scikit-learn's `C`; flat between 10 and 30 on CLINC150.
INVERSE_PENALTY = 20.0
#: Accelerated gradient steps; at 80 the largest gradient entry was below 1e-4 on CLINC150.
STEPS = 80
#: Strangers expected for each request that belongs to a route, when the threshold is chosen. Of 1, 0.6 and 1/3, looked
#: at on CLINC150's `val` and `oos_val`: 1 left 39 to 55% of the requests that do belong to one of 150 routes.
STRANGERS = 1 / 3
#: The threshold is at least this many times 1 / routes, the confidence in a text of which nothing is known.
LEAST_OVER_CHANCE = 1.25
#: Columns of the feature matrix that are dense at one time: bounds memory to examples × 4,096 × 4 bytes.
CHUNK = 4_096

_WORD = re.compile(r"\w+")


class ExampleClassifier:
    """Routes texts by their likeness to examples; made by `fit`, immutable afterwards, safe to share between threads.

    `threshold` is the confidence below which it abstains, `temperature` the divisor of its logits, `held_out_accuracy`
    the share of examples that were classified right by models that had not seen them (abstention apart).
    """

    name = "examples"

    def __init__(self, model: _Model, routes: tuple[str, ...], calibration: _Calibration) -> None:
        self._model = model
        self.routes = routes
        self.temperature = calibration.temperature
        self.threshold = calibration.threshold
        self.held_out_accuracy = calibration.accuracy

    @classmethod
    def fit(cls, examples: Mapping[str, Sequence[str]]) -> ExampleClassifier | None:
        """Fit one to `examples` (route → its texts); None when fewer than two routes have a text.

        Deterministic. About 0.1 s for 100 examples, 0.3 s for 300, 5 s for 1,500 of 150 routes, on one BLAS thread.
        Of more than 3,000 an even selection is used, and of each its first 2,000 characters.
        Examples without any word are ignored.
        """
        usable = {route: [text for text in texts if _WORD.search(text)] for route, texts in examples.items()}
        usable = {route: texts for route, texts in usable.items() if texts}
        if len(usable) < 2:
            return None
        share = max(1, MAX_EXAMPLES // len(usable))
        rows, labels = [], []
        for label, texts in enumerate(usable.values()):
            for text in texts[:: -(-len(texts) // share)]:
                rows.append(_families(text[:EXAMPLE_CHARACTERS]))
                labels.append(label)
        table = _Table.of(rows)
        y = np.array(labels)
        return cls(_Model.fit(table, y, len(usable)), tuple(usable), _calibrate(table, y, len(usable)))

    def classify(self, text: str) -> Verdict | None:
        """Return the route most like `text`, or None when none is like it enough. See `judge`."""
        said = self.judge(text)
        return said if isinstance(said, Verdict) else None

    def judge(self, text: str) -> Verdict | Abstention:
        """As `classify`, with the reason of an abstention.

        Reads at most 8,000 characters (`excerpt`). Confidence is max softmax(logits / temperature). Features that
        no example has still lengthen the vector, so a text that shares little with the examples has logits near 0, a
        confidence near 1 / routes, and is left to the next classifier.
        """
        logits = self._model.logits(_families(excerpt(text)))
        if logits is None:
            return Abstention(self.name, "no word in common with the examples")
        p = _softmax(logits / np.float32(self.temperature))
        best = int(p.argmax())
        confidence = float(p[best])
        if confidence < self.threshold:
            return Abstention(self.name, f"{self.routes[best]!r} at {confidence:.2f}, below {self.threshold:.2f}")
        reason = f"most like the examples of {self.routes[best]!r}"
        return Verdict(self.routes[best], self.name, confidence, reason)


def _families(text: str) -> Counter[str]:
    """Count the words, word bigrams and character n-grams of `text`; all numbers count as one word.

    The first character of a feature is the digit of its family.
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    words = ["0" if word.isdigit() else word for word in _WORD.findall(folded)]
    counts = Counter("0" + word for word in words)
    counts.update(f"1{a} {b}" for a, b in pairwise(["", *words, ""]))
    for word, times in Counter(words).items():
        padded = f" {word} "
        for n in (3, 4, 5):
            for start in range(len(padded) - n + 1):
                counts["2" + padded[start : start + n]] += times
    return counts


@dataclass(frozen=True, slots=True)
class _Table:
    """The features of all examples as a sparse matrix: entry i is log-damped count `tf[i]` at `row[i]`, `col[i]`."""

    vocabulary: dict[str, int]
    family: Ints  #: (features,): 0 words, 1 bigrams, 2 character n-grams
    shared: int  #: the first so many features stand in two rows or more
    rows: int
    row: Ints
    col: Ints
    tf: Floats

    @classmethod
    def of(cls, counts: Sequence[Counter[str]]) -> _Table:
        spread: Counter[str] = Counter()
        for count in counts:
            spread.update(count.keys())
        vocabulary = {feature: col for col, (feature, _) in enumerate(spread.most_common(MAX_FEATURES))}
        entries = [
            (row, vocabulary[feature], times)
            for row, count in enumerate(counts)
            for feature, times in count.items()
            if feature in vocabulary
        ]
        row, col, times = np.array(entries, np.intp).T
        family = np.array([int(feature[0]) for feature in vocabulary], np.intp)
        shared = sum(spread[feature] > 1 for feature in vocabulary)
        return cls(vocabulary, family, shared, len(counts), row, col, _damped(times))

    def weigh(self, train: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Smoothed idf (features,), 0 for what no row of `train` has, and the weights of all entries under it.

        idf = ln((1 + n) / (1 + df)) + 1 (scikit-learn's `smooth_idf`). An unseen feature counts for a row's length
        with the highest idf, but has no entry: what a model never saw shrinks its logits.
        """
        df = np.bincount(self.col[train[self.row]], minlength=len(self.family))
        idf = _idf(df, int(train.sum()))
        values = self.tf * idf[self.col]
        cell = self.row * len(FAMILY_WEIGHTS) + self.family[self.col]
        length = np.sqrt(np.bincount(cell, values**2)).astype(np.float32)
        known = df > 0
        values *= FAMILY_WEIGHTS[self.family[self.col]] / length[cell] * known[self.col]
        return np.where(known, idf, np.float32(0)), values

    def blocks(self, values: Floats, columns: int) -> Iterator[tuple[slice, Floats]]:
        """Yield the first `columns` columns of `values` as a dense matrix, some at a time: (slice, (rows, columns))."""
        order = np.argsort(self.col, kind="stable")
        row, col, values = self.row[order], self.col[order], values[order]
        for start in range(0, columns, CHUNK):
            stop = min(start + CHUNK, columns)
            part = slice(*np.searchsorted(col, (start, stop)))
            block = np.zeros((self.rows, stop - start), np.float32)
            block[row[part], col[part] - start] = values[part]
            yield slice(start, stop), block


@dataclass(frozen=True, slots=True)
class _Model:
    """Fitted weights, and what turns a text into the vector they multiply."""

    vocabulary: dict[str, int]
    idf: Floats  #: (features,)
    unseen_idf: float
    weights: Floats  #: (features, routes)

    @classmethod
    def fit(cls, table: _Table, y: Ints, routes: int) -> _Model:
        idf, values = table.weigh(np.ones(table.rows, bool))
        dual = _fit(_gram(table, values), y, routes)
        weights = np.empty((len(idf), routes), np.float32)
        for columns, block in table.blocks(values, len(idf)):
            weights[columns] = block.T @ dual
        return cls(table.vocabulary, idf, float(_idf(np.zeros(1), table.rows)[0]), weights)

    def logits(self, counts: Counter[str]) -> Floats | None:
        """Return the logits (routes,) of a text's features; None when it has no word or n-gram in common."""
        features = list(counts)
        if not features:
            return None
        col = np.array([self.vocabulary.get(feature, -1) for feature in features])
        family = np.array([int(feature[0]) for feature in features])
        idf = np.where(col >= 0, self.idf[col], np.float32(self.unseen_idf))
        values = _damped(np.array([counts[feature] for feature in features])) * idf
        length = np.sqrt(np.bincount(family, values**2, minlength=len(FAMILY_WEIGHTS))).astype(np.float32)
        values *= FAMILY_WEIGHTS[family] / length[family]
        known = col >= 0
        return values[known] @ self.weights[col[known]] if known.any() else None


@dataclass(frozen=True, slots=True)
class _Calibration:
    temperature: float
    threshold: float
    accuracy: float


def _calibrate(table: _Table, y: Ints, routes: int) -> _Calibration:
    """Temperature and threshold from predictions for examples left out of the fit, k folds of them.

    The temperature minimises their negative log-likelihood (Guo et al., "On Calibration of Modern Neural Networks",
    2017). For the threshold, whole routes are left out too: their examples stand for requests that belong nowhere. It
    maximises (right − wrong) / examples − accepted / strangers: a wrong route costs what a right one gains.
    """
    folds = 10 if table.rows <= 100 else 5 if table.rows <= 400 else 3
    rank = np.zeros_like(y)
    for label in range(routes):
        rank[y == label] = np.arange((y == label).sum())
    logits = np.empty((table.rows, routes), np.float32)
    for fold in range(folds):
        held = (rank + y) % folds == fold
        if held.any():
            logits[held] = _held_out(table, y, routes, held)
    grid = np.geomspace(0.02, 5.0, 80)
    picked = np.arange(table.rows), y
    doubt = 1 / (table.rows + 2)
    losses = []
    for t in grid:
        log_p = np.log(np.maximum(_softmax(logits / np.float32(t)), 1e-9))
        losses.append(-(1 - doubt) * log_p[picked].mean() - doubt * log_p.mean())
    temperature = float(grid[int(np.argmin(losses))])
    p = _softmax(logits / np.float32(temperature))
    right = p.argmax(1) == y
    strangers = []
    groups = min(routes, 5 if table.rows <= 400 else 2)
    for group in range(groups if routes > 2 else 0):
        held = y % groups == group
        stranger = _held_out(table, y, routes, held)[:, np.arange(routes) % groups != group]
        strangers.append(_softmax(stranger / np.float32(temperature)).max(1))
    accepted = np.concatenate(strangers) if strangers else np.zeros(0, np.float32)
    return _Calibration(temperature, _threshold(p.max(1), right, accepted, routes), float(right.mean()))


def _threshold(confidence: Floats, right: NDArray[np.bool_], strangers: Floats, routes: int) -> float:
    """Find the cut with the highest gain; of equal ones the middle, and never so low that a blank vector passes."""
    scores = np.unique(np.concatenate([confidence, strangers, [1 / routes, 1.0]]))
    cuts = (scores[:-1] + scores[1:]) / 2
    gain = [
        (right & (confidence >= cut)).mean()
        - (~right & (confidence >= cut)).mean()
        - STRANGERS * ((strangers >= cut).mean() if len(strangers) else 0.0)
        for cut in cuts
    ]
    best = np.flatnonzero(np.isclose(gain, max(gain)))
    return float(max(cuts[best[len(best) // 2]], LEAST_OVER_CHANCE / routes))


def _held_out(table: _Table, y: Ints, routes: int, held: NDArray[np.bool_]) -> Floats:
    """Logits (held rows, routes) of a model that saw neither the rows `held` nor their features."""
    _, values = table.weigh(~held)
    gram = _gram(table, values)
    dual = _fit(gram[np.ix_(~held, ~held)], y[~held], routes)
    logits: Floats = gram[np.ix_(held, ~held)] @ dual
    return logits


def _gram(table: _Table, values: Floats) -> Floats:
    """All inner products of rows: (rows, rows)."""
    gram = np.zeros((table.rows, table.rows), np.float32)
    for _, block in table.blocks(values, table.shared):
        gram += block @ block.T
    # A feature of one row alone meets only itself: more than half of them need no product.
    own = table.col >= table.shared
    np.fill_diagonal(gram, gram.diagonal() + np.bincount(table.row[own], values[own] ** 2, minlength=table.rows))
    return gram


def _fit(gram: Floats, y: Ints, routes: int) -> Floats:
    """Multinomial logistic regression in its dual: A (rows, routes), so that the logits of row i are `gram[i] @ A`.

    The weights lie in the span of the rows, so with a few hundred rows and many thousand features the dual is the small
    problem. Nesterov's method for a smooth, strongly convex function (Introductory Lectures, 2004, §2.2), in the metric
    of the features; rows weigh inversely to their route's size, because the number of examples a route happens to have
    says nothing about its share of the requests.
    """
    n = len(y)
    if n == 0:
        return np.zeros((0, routes), np.float32)
    size = np.bincount(y, minlength=routes)
    weight = (n / (np.count_nonzero(size) * size[y])).astype(np.float32)[:, None]
    penalty = 1 / (INVERSE_PENALTY * n)
    probe = np.ones((n, 1), np.float32)
    largest = 1.0
    for _ in range(10):  # power iteration; the factor below covers what ten steps lack
        probe = weight * (gram @ probe)
        largest = max(float(np.linalg.norm(probe)), 1e-6)
        probe /= np.float32(largest)
    # 1/2 bounds the curvature of the softmax loss (Böhning, 1992).
    lipschitz = 1.1 * 0.5 * largest / n + penalty
    root = math.sqrt(penalty / lipschitz)
    momentum = (1 - root) / (1 + root)
    target = np.zeros((n, routes), np.float32)
    target[np.arange(n), y] = 1
    dual: Floats = np.zeros_like(target)
    ahead = dual
    for _ in range(STEPS):
        gradient: Floats = weight * (_softmax(gram @ ahead) - target) / n + penalty * ahead
        previous, dual = dual, ahead - gradient / lipschitz
        ahead = dual + momentum * (dual - previous)
    return dual


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    p: Floats = shifted / shifted.sum(-1, keepdims=True)
    return p


def _damped(times: NDArray[Any]) -> Floats:
    damped: Floats = (1 + np.log(times)).astype(np.float32)
    return damped


def _idf(df: NDArray[Any], rows: int) -> Floats:
    idf: Floats = (np.log((1 + rows) / (1 + df)) + 1).astype(np.float32)
    return idf
