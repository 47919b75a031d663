"""`majority` and `weighted`: the answer with the most votes, or with the heaviest ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Piece, Work
from tasks.parallel.votes.answer_form import Form, choice_form
from tasks.parallel.votes.ballot import BallotOptions, read_ballot, read_cut_ballot
from tasks.parallel.votes.count import Count, Vote, count, shorten_ballot
from tasks.parallel.votes.posterior import posterior
from tasks.parallel.votes.weights import Scale

#: A thousand votes of the highest weight add up exactly, see `tasks.parallel.votes.weights.STEP`.
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class MajorityOptions(BallotOptions):
    """The `join_options` of `majority`: how an output becomes a ballot, and the form of the answer."""

    #: ``first``: the first output with the winning ballot, as it was written. ``ballot``: the ballot alone.
    show: Literal["first", "ballot"] = "first"


class WeightedOptions(MajorityOptions):
    """The `join_options` of `weighted`: also the weights by model, which override those of the profiles."""

    weights: Mapping[str, Weight] = Field(default_factory=dict)
    #: The weight of models that neither these options nor the profiles name.
    other: Weight = 1.0


def ballot_of(output: str, options: BaseModel | None) -> str:
    """Return the ballot of an output, "" if it abstains."""
    return read_ballot(output, options if isinstance(options, BallotOptions) else MajorityOptions())


def _cut_ballot_of(output: str, options: BaseModel | None) -> str:
    return read_cut_ballot(output, options if isinstance(options, BallotOptions) else MajorityOptions())


def _ballot_of_piece(piece: Piece, options: BaseModel | None) -> str:
    return (_cut_ballot_of if piece.truncated else ballot_of)(piece.output, options)


def _form(options: BaseModel | None) -> Form:
    """Return the form of an output: one of the `answers`, unless the text to read is described otherwise."""
    if not isinstance(options, BallotOptions) or options.path or options.extract or options.take == "last_number":
        return None
    return choice_form(options.answers)


def scale(options: WeightedOptions, profiles: Mapping[str, float]) -> Scale:
    """Return the weights in force: those of the options, then those of the `profiles`, then `other`."""
    return Scale({**profiles, **options.weights}, options.other)


@joiner(kinds=("vote",), options=MajorityOptions, ballot=ballot_of, cut_ballot=_cut_ballot_of, form=_form)
def majority(work: Work) -> Joined:
    """Take the output whose ballot has the most votes; `tasks.parallel.votes.count` breaks ties.

    `share` is votes / total; `total` are the counted outputs, without missing parts and abstentions. `confidence` is
    the probability that the winner leads the runner-up (`tasks.parallel.votes.posterior`), not that it is right.
    """
    counted = count([Vote(piece.index, _ballot_of_piece(piece, work.options), piece.output) for piece in work.pieces])
    votes = [*sorted((int(votes) for votes in counted.ballots.values()), reverse=True), 0, 0]
    return _make_joined(counted, work, {"confidence": posterior(votes[0], votes[1])})


@joiner(kinds=("vote",), options=WeightedOptions, ballot=ballot_of, cut_ballot=_cut_ballot_of, form=_form)
def weighted(work: Work) -> Joined:
    """Take the output whose ballot weighs most; `tasks.parallel.votes.count` breaks ties.

    A vote of weight 0 abstains. `share`, which is also the `confidence`, is the winner's weight over the weight of all
    counted votes; `weights` are those of each model's vote.
    """
    options = work.options_as(WeightedOptions)
    weights = scale(options, work.weights)
    counted = count(
        [
            Vote(piece.index, _ballot_of_piece(piece, options), piece.output, weights.of(piece.model))
            for piece in work.pieces
        ]
    )
    voters = sorted({piece.model for piece in work.pieces if piece.model})
    share = counted.votes / counted.total if counted.total else 0.0
    return _make_joined(counted, work, {"confidence": share, "weights": {model: weights.of(model) for model in voters}})


def _make_joined(counted: Count, work: Work, more: dict[str, Any]) -> Joined:
    """Return the winner of a count, its details, and `more` of them."""
    winner = counted.winner
    if winner is None:
        silent = f" ({len(counted.abstained)} abstain)" if counted.abstained else ""
        parts = len(work.pieces) + len(work.missing)
        raise JoinError(f"no vote to count: {len(work.missing)} of {parts} parts are missing{silent}")
    details = {
        "ballot": shorten_ballot(winner.ballot),
        "votes": _format_number(counted.votes),
        "total": _format_number(counted.total),
        "share": counted.votes / counted.total,
        "ballots": {shorten_ballot(ballot): _format_number(votes) for ballot, votes in counted.ballots.items()},
        "dissent": [
            {"ballot": shorten_ballot(ballot), "votes": _format_number(votes), "parts": list(counted.cast[ballot])}
            for ballot, votes in sorted(counted.ballots.items(), key=lambda item: -item[1])
            if ballot != winner.ballot
        ],
        "tie": [shorten_ballot(ballot) for ballot in counted.tie],
        "abstained": list(counted.abstained),
        **more,
        **work.gaps(),
    }
    show = work.options.show if isinstance(work.options, MajorityOptions) else "first"
    if show == "ballot":
        return Joined(winner.ballot, details, truncated=False)
    return Joined(winner.text, details, work.is_cut(winner.index))


def _format_number(votes: float) -> float:
    """Return whole numbers as integers."""
    return int(votes) if votes == int(votes) else votes
