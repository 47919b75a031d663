"""The answer whose models weigh most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.majority import MajorityOptions, ballot_of, elected
from tasks.parallel.joins.values import Joined, Work
from tasks.parallel.votes.count import Take, count
from tasks.parallel.votes.weights import Scale

__all__ = ["WeightedOptions", "scale", "weighted"]

#: A thousand parts of it add up exactly, see `tasks.parallel.votes.weights.STEP`.
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class WeightedOptions(MajorityOptions):
    """What the votes weigh, by the model that casts them; what is said here goes before the profiles."""

    weights: Mapping[str, Weight] = Field(default_factory=dict)
    #: What the vote of a model weighs that is named neither here nor by the profiles.
    other: Weight = 1.0


def scale(options: WeightedOptions, profiles: Mapping[str, float]) -> Scale:
    """The weights that hold: those of the options, then those of the `profiles`, then `other`."""
    return Scale({**profiles, **options.weights}, options.other)


@joiner(kinds=("vote",), options=WeightedOptions, ballot=ballot_of)
def weighted(work: Work) -> Joined:
    """Take the output whose models together weigh most; ties go as `tasks.parallel.votes.count` says.

    A vote that weighs nothing abstains. `share`, which is the `confidence`, is the winner's weight over all that was
    counted; `weights` tell what each model's vote weighed.

    Raises:
        JoinError: where nothing was counted.
    """
    options = work.options if isinstance(work.options, WeightedOptions) else WeightedOptions()
    weighing = scale(options, work.weights)
    counted = count(
        [
            Take(piece.index, ballot_of(piece.output, options), piece.output, weighing.of(piece.model))
            for piece in work.pieces
        ]
    )
    voters = sorted({piece.model for piece in work.pieces if piece.model})
    share = counted.votes / counted.total if counted.total else 0.0
    return elected(counted, work, {"confidence": share, "weights": {model: weighing.of(model) for model in voters}})
