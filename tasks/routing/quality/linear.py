"""Ridge regression whose penalty is chosen on texts that it has not seen, with those very predictions kept.

The predictions for unseen texts are what the trees of `predictor` are fitted on: fitted on what a model says about its
own training texts, they would trust it far too much (stacking, Wolpert 1992).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ridge", "folds_of"]

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.intp]"

#: Parts that the texts are cut into; each is predicted by a model of the others.
FOLDS = 5
#: Penalties that are tried, from trusting to doubtful.
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def folds_of(texts: Sequence[str]) -> Ints:
    """The fold of each text, 0 to 4: by its hash, so that equal texts are never on both sides, whatever their order."""
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    place = {found: at for at, found in enumerate(sorted(set(hashes)))}
    return np.array([place[found] % FOLDS for found in hashes], np.intp)


@dataclass(frozen=True, slots=True)
class Ridge:
    """``predict(x) = (x - centre) @ weights + mean``."""

    centre: Floats
    weights: Floats
    mean: Floats

    @classmethod
    def stacked(cls, rows: Floats, targets: Floats, folds: Ints) -> tuple[Ridge, Floats]:
        """The model of all rows, and what models without a row's fold say of that row.

        The penalty is that of `PENALTIES` with the least squared error of those, where what counts is how the outputs
        differ from each other: that is what a choice between models goes by.
        """
        parts = [_Sums.of(rows[folds == fold], targets[folds == fold]) for fold in range(FOLDS)]
        whole = sum(parts[1:], parts[0])
        wanted = targets - targets.mean(axis=1, keepdims=True)
        best: tuple[float, float, Floats] | None = None
        for penalty in PENALTIES:
            unseen = np.empty_like(targets)
            for fold, part in enumerate(parts):
                here = folds == fold
                unseen[here] = cls._solved(whole - part, penalty).predict(rows[here])
            said = unseen - unseen.mean(axis=1, keepdims=True)
            error = float(((said - wanted) ** 2).mean())
            if best is None or error < best[0]:
                best = (error, penalty, unseen)
        assert best is not None
        return cls._solved(whole, best[1]), best[2]

    @classmethod
    def _solved(cls, sums: _Sums, penalty: float) -> Ridge:
        """Least squares with ``penalty * |weights|²``; the mean is not penalized."""
        centre, mean = sums.rows / sums.count, sums.targets / sums.count
        square = sums.square - sums.count * np.outer(centre, centre)
        square[np.diag_indices_from(square)] += penalty
        weights = np.linalg.solve(square, sums.cross - sums.count * np.outer(centre, mean))
        return cls(centre, np.asarray(weights, np.float64), mean)

    def predict(self, rows: Floats) -> Floats:
        predicted: Floats = (rows - self.centre) @ self.weights + self.mean
        return predicted

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, to be saved."""
        return {"centre": self.centre, "weights": self.weights, "mean": self.mean}

    @classmethod
    def of_arrays(cls, saved: Mapping[str, NDArray[Any]]) -> Ridge:
        """What `arrays` gave."""
        return cls(saved["centre"], saved["weights"], saved["mean"])


@dataclass(frozen=True, slots=True)
class _Sums:
    """What least squares need of some rows; of several parts they add up, so that no fold is summed twice."""

    count: int
    rows: Floats
    targets: Floats
    square: Floats
    cross: Floats

    @classmethod
    def of(cls, rows: Floats, targets: Floats) -> _Sums:
        return cls(len(rows), rows.sum(axis=0), targets.sum(axis=0), rows.T @ rows, rows.T @ targets)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.count + other.count,
            self.rows + other.rows,
            self.targets + other.targets,
            self.square + other.square,
            self.cross + other.cross,
        )

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.count - other.count,
            self.rows - other.rows,
            self.targets - other.targets,
            self.square - other.square,
            self.cross - other.cross,
        )
