"""The mean of the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.scores import MeanOptions, middle
from tasks.parallel.joins.values import Joined, Work

__all__ = ["mean", "trimmed_mean"]


@joiner(kinds=("vote",), options=MeanOptions)
def mean(work: Work) -> Joined:
    """Take the mean of the scores, without the share `trim` of them at each end; needs every part.

    Raises:
        JoinError: where no output holds a score.
    """
    options = work.options if isinstance(work.options, MeanOptions) else MeanOptions()
    return middle(work, options, lambda scores: trimmed_mean(scores, options.trim), "mean")


def trimmed_mean(scores: Sequence[float], trim: float) -> float:
    """The mean of what is left of `scores`, in ascending order, without ⌊trim · n⌋ of them at each end."""
    # 0.2 · 5 is one score, whatever the last binary digit says.
    cut = math.floor(trim * len(scores) + 1e-9)
    kept = scores[cut : len(scores) - cut]
    return math.fsum(kept) / len(kept)
