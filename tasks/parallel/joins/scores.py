"""`mean` and `median`: the middle of the scores that the votes give."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import is_readable
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Work
from tasks.parallel.votes.answer_form import Form, score_form
from tasks.parallel.votes.ballot import Extraction, extract_text
from tasks.parallel.votes.score import read_score


class ScoreOptions(Extraction):
    """The `join_options` of `median`: where the score of an output is, and which scores count."""

    #: Which number of a text is the score where the text announces none; scales ("7/10", "from 1 to 10") are none.
    take: Literal["last", "first"] = "last"
    #: The bounds of the scale; scores beyond them do not count.
    least: float | None = Field(default=None, allow_inf_nan=False)
    most: float | None = Field(default=None, allow_inf_nan=False)
    #: Digits after the decimal point of the output.
    decimals: int = Field(default=2, ge=0, le=12)

    @model_validator(mode="after")
    def _ordered(self) -> ScoreOptions:
        if self.least is not None and self.most is not None and self.least >= self.most:
            raise ValueError("least must be below most")
        return self


class MeanOptions(ScoreOptions):
    """The `join_options` of `mean`."""

    #: The share of the scores that is removed at each end before the mean is taken.
    trim: float = Field(default=0.0, ge=0, lt=0.5)


def _form(options: BaseModel | None) -> Form:
    """Return the form of an output: a number, where the job declares a bound of the scale."""
    if not isinstance(options, ScoreOptions) or options.path or options.extract:
        return None
    return score_form(options.least, options.most)


@joiner(kinds=("vote",), options=MeanOptions, form=_form)
def mean(work: Work) -> Joined:
    """Take the mean of the scores, without the share `trim` at each end; needs every part."""
    options = work.options_as(MeanOptions)
    return _make_joined(work, options, lambda scores: _trimmed_mean(scores, options.trim), "mean")


def _trimmed_mean(scores: Sequence[float], trim: float) -> float:
    """Return the mean of `scores`, in ascending order, without ⌊trim · n⌋ of them at each end."""
    # 0.2 · 5 is one score, whatever the last binary digit is.
    cut = math.floor(trim * len(scores) + 1e-9)
    kept = scores[cut : len(scores) - cut]
    return math.fsum(kept) / len(kept)


@joiner(kinds=("vote",), options=ScoreOptions, form=_form)
def median(work: Work) -> Joined:
    """Take the score in the middle, or the mean of the two in the middle; needs every part."""
    return _make_joined(work, work.options_as(ScoreOptions), statistics.median, "median")


def _make_joined(work: Work, options: ScoreOptions, middle: Callable[[Sequence[float]], float], name: str) -> Joined:
    """Return the `middle` of the scores, which are in ascending order, with their distribution in the details.

    `spread` is the standard deviation (of the sample; 0 for one score), `dissent` are the scores further than that from
    the middle, `unread` the parts without a score within the bounds. `confidence` is the share of all planned votes
    that gave a score; `spread` measures their agreement.
    """
    # Of a number where an answer was cut, digits may be missing.
    found = [
        (piece.index, _read_score(piece.output, options) if is_readable(piece, options) else None)
        for piece in work.pieces
    ]
    scored = {index: score for index, score in found if score is not None}
    if not scored:
        raise JoinError(
            f"no score to count: {len(work.missing)} of {work.total} parts are missing, {len(found)} hold no number "
            "within the bounds"
        )
    scores = sorted(scored.values())
    value = middle(scores)
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    details: dict[str, Any] = {
        "mean": math.fsum(scores) / len(scores),
        "median": statistics.median(scores),
        "spread": spread,
        "lowest": scores[0],
        "highest": scores[-1],
        "total": len(scores),
        "scores": {str(index): score for index, score in scored.items()},
        "confidence": len(scored) / work.total,
        "dissent": [{"index": index, "score": score} for index, score in scored.items() if abs(score - value) > spread],
        "tie": [],
        "unread": [index for index, score in found if score is None],
        **work.gaps(),
    } | {name: value}
    return Joined(_format_number(value, options.decimals), details, truncated=False)


def _read_score(output: str, options: ScoreOptions) -> float | None:
    text = extract_text(output, options)
    return None if text is None else read_score(text, least=options.least, most=options.most, take=options.take)


def _format_number(value: float, decimals: int) -> str:
    """Write a number without trailing zeros ("7.5", "7") and without a negative zero."""
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
