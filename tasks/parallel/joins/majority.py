"""`majority` and `weighted`: the answer with the most votes, or with the heaviest ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Work, listed
from tasks.parallel.votes.ballot import Reading, read
from tasks.parallel.votes.count import Count, Vote, count, shown
from tasks.parallel.votes.posterior import posterior
from tasks.parallel.votes.weights import Scale

__all__ = ["MajorityOptions", "WeightedOptions", "ballot_of", "elected", "majority", "scale", "weighted"]


class MajorityOptions(Reading):
    """How an output becomes a ballot, and what the answer shows."""

    #: ``first``: the first output with the winning ballot, as it was written. ``ballot``: the ballot alone.
    show: Literal["first", "ballot"] = "first"


def ballot_of(output: str, options: BaseModel | None) -> str:
    """The ballot that an output casts, "" for none."""
    return read(output, options if isinstance(options, Reading) else MajorityOptions())


@joiner(kinds=("vote",), options=MajorityOptions, ballot=ballot_of)
def majority(work: Work) -> Joined:
    """Vote the output that most pieces agree on once read; ties go as `tasks.parallel.votes.count` says.

    `share` is votes / total, where `total` are the outputs that were counted: neither missing parts nor those that
    abstain. `confidence` is how sure the votes are that the winner leads the runner-up (`votes.posterior`); it
    says nothing of whether the winner is right.

    Raises:
        JoinError: where nothing was counted.
    """
    takes = [Vote(piece.index, ballot_of(piece.output, work.options), piece.output) for piece in work.pieces]
    counted = count(takes)
    votes = [*sorted((int(votes) for votes in counted.ballots.values()), reverse=True), 0, 0]
    return elected(counted, work, {"confidence": posterior(votes[0], votes[1])})


def elected(counted: Count, work: Work, more: dict[str, Any]) -> Joined:
    """The winner of a count with its details, and `more` of them.

    Raises:
        JoinError: where nothing was counted.
    """
    winner = counted.winner
    if winner is None:
        silent = f" ({len(counted.abstained)} abstain)" if counted.abstained else ""
        parts = len(work.pieces) + len(work.missing)
        raise JoinError(f"no vote to count: {len(work.missing)} of {parts} parts are missing{silent}")
    details = {
        "ballot": shown(winner.ballot),
        "votes": plain(counted.votes),
        "total": plain(counted.total),
        "share": counted.votes / counted.total,
        "ballots": {shown(ballot): plain(votes) for ballot, votes in counted.ballots.items()},
        "dissent": [
            {"ballot": shown(ballot), "votes": plain(votes), "parts": list(counted.cast[ballot])}
            for ballot, votes in sorted(counted.ballots.items(), key=lambda item: -item[1])
            if ballot != winner.ballot
        ],
        "tie": [shown(ballot) for ballot in counted.tie],
        "abstained": list(counted.abstained),
        **more,
        "missing": listed(work.missing),
    }
    show = work.options.show if isinstance(work.options, MajorityOptions) else "first"
    return Joined(winner.ballot if show == "ballot" else winner.text, details)


def plain(votes: float) -> float:
    """Whole numbers as such."""
    return int(votes) if votes == int(votes) else votes


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
    """Vote the output whose models together weigh most; ties go as `tasks.parallel.votes.count` says.

    A vote that weighs nothing abstains. `share`, which is the `confidence`, is the winner's weight over all that was
    counted; `weights` tell what each model's vote weighed.

    Raises:
        JoinError: where nothing was counted.
    """
    options = work.options if isinstance(work.options, WeightedOptions) else WeightedOptions()
    weighing = scale(options, work.weights)
    counted = count(
        [
            Vote(piece.index, ballot_of(piece.output, options), piece.output, weighing.of(piece.model))
            for piece in work.pieces
        ]
    )
    voters = sorted({piece.model for piece in work.pieces if piece.model})
    share = counted.votes / counted.total if counted.total else 0.0
    return elected(counted, work, {"confidence": share, "weights": {model: weighing.of(model) for model in voters}})
