"""Boosted trees for a few dozen numbers a text, in numpy alone: small, deterministic, quick for one row.

Trees are *oblivious* (every node of a level asks the same question, as in CatBoost), so a tree is a list of questions
and a table, and an answer is a few comparisons with no recursion. One tree answers for all outputs at once: models that
are hard on the same texts share their splits. The loss is squared error; what keeps the trees from learning noise is
shallow depth, a step that is small, rows and columns drawn for each tree, and a leaf that is pulled towards zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.intp]"


@dataclass(frozen=True, slots=True)
class Growth:
    """How trees are grown. The defaults were looked at on the two public sets of docs/explanation/cost-quality.md."""

    trees: int = 200
    #: Questions of a tree: it has 2 ** depth leaves.
    depth: int = 3
    #: Share of a leaf's mean that a tree adds.
    step: float = 0.05
    #: Rows at the value zero that are added to each leaf: it needs about that many rows to be believed.
    prior_rows: float = 30.0
    #: Share of the rows, and of the columns, that one tree sees.
    rows: float = 0.7
    columns: float = 0.25
    #: Questions are asked at this many quantiles of a column, less one.
    bins: int = 32


class Trees:
    """Made by `fit`; immutable afterwards, safe to share between threads."""

    def __init__(self, columns: Ints, borders: Floats, leaves: Floats, mean: Floats) -> None:
        #: Of each tree (first axis) and level: the column, and the border that a "yes" lies above.
        self._columns, self._borders = columns, borders
        #: Tree × leaf × output.
        self._leaves = leaves
        self._mean = mean
        self._places = np.arange(len(leaves))
        self._powers = 1 << np.arange(columns.shape[1])[::-1]

    @classmethod
    def fit(cls, rows: Floats, targets: Floats, *, growth: Growth | None = None, seed: int = 0) -> Trees:
        """Fit to `rows` (n × columns) and `targets` (n × outputs); the same input gives the same trees.

        A column that is constant is never asked about. About 0.5 s for 6,000 rows of 40 columns and one output.
        """
        growth = growth or Growth()
        chance = np.random.default_rng(seed)
        edges = [_edges(rows[:, column], growth.bins) for column in range(rows.shape[1])]
        binned = np.stack([np.searchsorted(edge, rows[:, at], side="left") for at, edge in enumerate(edges)], axis=1)
        mean = targets.mean(axis=0)
        left = targets - mean
        grown: list[tuple[Ints, Ints, Floats]] = []
        for _ in range(growth.trees):
            some = np.sort(chance.permutation(len(rows))[: max(1, int(len(rows) * growth.rows))])
            asked = np.sort(chance.permutation(rows.shape[1])[: max(1, round(rows.shape[1] * growth.columns))])
            columns, cuts = _questions(binned[np.ix_(some, asked)], left[some], growth)
            columns = asked[columns]
            leaf = (binned[:, columns] > cuts) @ (1 << np.arange(growth.depth)[::-1])
            values = growth.step * _leaf_values(leaf[some], left[some], 1 << growth.depth, growth.prior_rows)
            left = left - values[leaf]
            grown.append((columns, cuts, values))
        borders = [
            [_border(edges[column], cut) for column, cut in zip(columns, cuts, strict=True)]
            for columns, cuts, _ in grown
        ]
        return cls(
            np.array([columns for columns, _, _ in grown]),
            np.array(borders),
            np.array([values for _, _, values in grown]),
            mean,
        )

    def predict(self, rows: Floats) -> Floats:
        """The outputs of `rows`: n × outputs."""
        leaf = (rows[:, self._columns] > self._borders) @ self._powers
        answers: Floats = self._leaves[self._places, leaf].sum(axis=1) + self._mean
        return answers

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that it is, to be saved."""
        return {"columns": self._columns, "borders": self._borders, "leaves": self._leaves, "mean": self._mean}

    @classmethod
    def of_arrays(cls, saved: Mapping[str, NDArray[np.generic]]) -> Trees:
        """What `arrays` gave."""
        return cls(
            saved["columns"].astype(np.intp),
            saved["borders"].astype(np.float64),
            saved["leaves"].astype(np.float64),
            saved["mean"].astype(np.float64),
        )


def _edges(column: Floats, bins: int) -> Floats:
    return np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1]))


def _border(edges: Floats, cut: int) -> float:
    # A cut above the last edge of a column separates nothing.
    return float(edges[cut]) if cut < len(edges) else np.inf


def _questions(binned: Ints, left: Floats, growth: Growth) -> tuple[Ints, Ints]:
    """The columns and cuts of one tree, each level the one that explains most of what is `left`, over all its nodes."""
    count, width = binned.shape
    node = np.zeros(count, np.intp)
    columns, cuts = np.zeros(growth.depth, np.intp), np.zeros(growth.depth, np.intp)
    for level in range(growth.depth):
        nodes = 1 << level
        shape = (width, nodes, growth.bins)
        cell = (((np.arange(width) * nodes)[None, :] + node[:, None]) * growth.bins + binned).ravel()
        below = np.bincount(cell, minlength=width * nodes * growth.bins).reshape(shape).cumsum(axis=2)
        above = below[:, :, -1:] - below
        gain = np.zeros((width, growth.bins))
        for output in range(left.shape[1]):
            weights = np.repeat(left[:, output], width)
            low = (
                np.bincount(cell, weights=weights, minlength=width * nodes * growth.bins).reshape(shape).cumsum(axis=2)
            )
            high = low[:, :, -1:] - low
            gain += (low**2 / (below + growth.prior_rows) + high**2 / (above + growth.prior_rows)).sum(axis=1)
        column, cut = divmod(int(np.argmax(gain[:, :-1])), growth.bins - 1)
        columns[level], cuts[level] = column, cut
        node = node * 2 + (binned[:, column] > cut)
    return columns, cuts


def _leaf_values(leaf: Ints, left: Floats, leaves: int, prior_rows: float) -> Floats:
    rows = np.bincount(leaf, minlength=leaves) + prior_rows
    sums = [np.bincount(leaf, weights=left[:, output], minlength=leaves) for output in range(left.shape[1])]
    return np.stack(sums, axis=1) / rows[:, None]
