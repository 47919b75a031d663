"""Likeness to some known texts: what a text looks like and what it is about, compared with a few hundred others.

A ridge regression over these columns is a kernel regression with a Gaussian kernel, by Nyström's approximation
(Williams and Seeger 2001): it finds clusters of texts that one model is good at, at a cost that doesn't grow with the
number of texts it was fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Landmarks"]

Floats: TypeAlias = "NDArray[np.float64]"

#: Texts that others are compared with.
COUNT = 500
#: Weights of the two halves of a place: looks, each scaled to deviation 1 over some 30 columns, and topic, of length 1.
LOOKS_WEIGHT = 0.3
TOPIC_WEIGHT = 4.0
#: Looks further from the mean than so many deviations count as that many.
OUTLIER = 4.0


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Made by `fit`. `nearness` is the kernel's 1 / width²: one over the median squared distance."""

    mean: Floats
    deviation: Floats
    places: Floats
    nearness: float

    @classmethod
    def fit(cls, looks: Floats, topics: Floats, *, seed: int = 0) -> Landmarks:
        """Take landmarks from the rows at random; the same input gives the same ones."""
        mean, deviation = looks.mean(axis=0), looks.std(axis=0)
        deviation = np.where(deviation > 1e-9, deviation, 1.0)
        some = np.sort(np.random.default_rng(seed).permutation(len(looks))[:COUNT])
        bare = cls(mean, deviation, np.zeros((0, 0)), 1.0)
        places = bare._placed(looks[some], topics[some])
        typical = float(np.median(_squared_distances(places, places)))
        return cls(mean, deviation, places, 1.0 / typical if typical > 0 else 1.0)

    def likeness(self, looks: Floats, topics: Floats) -> Floats:
        """From 0 to 1 for each text and landmark: n × landmarks."""
        like: Floats = np.exp(-self.nearness * _squared_distances(self._placed(looks, topics), self.places))
        return like

    def _placed(self, looks: Floats, topics: Floats) -> Floats:
        scaled = np.clip((looks - self.mean) / self.deviation, -OUTLIER, OUTLIER)
        return np.hstack([LOOKS_WEIGHT * scaled, TOPIC_WEIGHT * topics])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, to be saved."""
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "places": self.places,
            "nearness": np.array(self.nearness),
        }

    @classmethod
    def of_arrays(cls, saved: Mapping[str, NDArray[Any]]) -> Landmarks:
        """What `arrays` gave."""
        return cls(saved["mean"], saved["deviation"], saved["places"], float(saved["nearness"]))


def _squared_distances(one: Floats, other: Floats) -> Floats:
    found: Floats = np.maximum((one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * one @ other.T, 0.0)
    return found
