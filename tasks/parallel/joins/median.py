"""The median of the scores."""

from __future__ import annotations

import statistics

from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.scores import ScoreOptions, middle
from tasks.parallel.joins.values import Joined, Work

__all__ = ["median"]


@joiner(kinds=("vote",), options=ScoreOptions)
def median(work: Work) -> Joined:
    """Take the score in the middle, or half way between the two there; needs every part.

    Raises:
        JoinError: where no output holds a score.
    """
    options = work.options if isinstance(work.options, ScoreOptions) else ScoreOptions()
    return middle(work, options, statistics.median, "median")
