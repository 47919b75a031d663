"""`threshold`: flag if at least k votes flag."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from tasks.contract.errors import BadInput, JoinError
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Piece, Work
from tasks.parallel.votes.answer_form import Form, choice_form
from tasks.parallel.votes.ballot import Extraction, extract_text, find_sure_text
from tasks.parallel.votes.choice import read_choice
from tasks.parallel.votes.normalize import normalize

#: The two ballots.
FLAGGED = "flagged"
CLEAR = "clear"
#: The default answers that flag, and those that clear.
FLAGS = ("yes", "true", "flag", "flagged", "unsafe", "violation", "violates", "block", "blocked", "reject", "1")
CLEARS = ("no", "false", "clear", "safe", "ok", "okay", "none", "pass", "allow", "allowed", "accept", "0")


class ThresholdOptions(Extraction):
    """The `join_options` of `threshold`: the number of flags, how outputs are read, and the output of the job."""

    #: The least number of votes that flag; more than half by default.
    k: int | None = Field(default=None, ge=1, le=1000)
    #: The answers that flag, and those that clear.
    flag: tuple[str, ...] = Field(default=FLAGS, min_length=1, max_length=100)
    clear: tuple[str, ...] = Field(default=CLEARS, max_length=100)
    #: The ballot of an answer that is neither, or both. The default is the safe side.
    unread: Literal["flagged", "clear"] = "flagged"
    #: The output of the job for each verdict.
    says_flagged: str = Field(default=FLAGGED, min_length=1, max_length=10_000)
    says_clear: str = Field(default=CLEAR, min_length=1, max_length=10_000)
    #: The rates at which one voter flags clean input, and clears other input; `details` then hold those of the vote.
    false_alarms: float | None = Field(default=None, ge=0, le=1)
    misses: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _apart(self) -> ThresholdOptions:
        flags = {normalize(word) for word in self.flag}
        # A configured flag overrides the default words that clear.
        own = "clear" in self.model_fields_set
        if "" in flags or (own and flags & {normalize(word) for word in self.clear}):
            raise ValueError("flag and clear must be different words, and none blank")
        return self


def _read_ballot(output: str, options: BaseModel | None) -> str:
    if not output.strip():
        return ""
    how = options if isinstance(options, ThresholdOptions) else ThresholdOptions()
    return read_flag(output, how) or how.unread


def _read_cut_ballot(output: str, options: BaseModel | None) -> str:
    """A vote that was cut before it was clear is one that can't be read."""
    how = options if isinstance(options, ThresholdOptions) else ThresholdOptions()
    return _read_cut_verdict(output, how) or how.unread


def _read_cut_verdict(output: str, options: ThresholdOptions) -> str:
    ballots = dict.fromkeys(map(normalize, options.clear), CLEAR) | dict.fromkeys(map(normalize, options.flag), FLAGGED)
    text = find_sure_text(output, options, ballots)
    return "" if text is None else read_flag(text, options)


def _read_piece(piece: Piece, options: ThresholdOptions) -> str:
    return (_read_cut_verdict if piece.truncated else read_flag)(piece.output, options)


def read_flag(output: str, options: ThresholdOptions) -> str:
    """Return FLAGGED, CLEAR, or "" if the output is neither."""
    text = extract_text(output, options)
    if text is None:
        return ""
    return read_choice(text, dict.fromkeys(options.clear, CLEAR) | dict.fromkeys(options.flag, FLAGGED))


def _form(options: BaseModel | None) -> Form:
    """Return the form of an output: one of the words that the job itself names as flagging or clearing."""
    declared = isinstance(options, ThresholdOptions) and options.model_fields_set & {"flag", "clear"}
    if not declared or not isinstance(options, ThresholdOptions) or options.path or options.extract:
        return None
    return choice_form((*options.flag, *options.clear))


def least_flags(options: ThresholdOptions, n: int) -> int:
    """Return the number of flags that decide a vote of `n`; raise `BadInput` if `k` is more than `n`."""
    if options.k is None:
        return n // 2 + 1
    if options.k > n:
        raise BadInput("join_options.k", f"is {options.k}, but there are {n} votes", f"at most {n} can flag")
    return options.k


def at_least(k: int, n: int, rate: float) -> float:
    """Return the chance that at least `k` of `n` independent voters flag, each with chance `rate`."""
    chances = (math.comb(n, flags) * rate**flags * (1 - rate) ** (n - flags) for flags in range(k, n + 1))
    return min(1.0, math.fsum(chances))


@joiner(kinds=("vote",), options=ThresholdOptions, ballot=_read_ballot, cut_ballot=_read_cut_ballot, form=_form)
def threshold(work: Work) -> Joined:
    """Flag if at least `k` of all planned votes flag; blank and missing votes do not.

    `share`, which is also the `confidence`, is the share of the counted votes that agree with the verdict.
    """
    options = work.options_as(ThresholdOptions)
    k = least_flags(options, work.total)
    ballots = {
        piece.index: (_read_cut_ballot if piece.truncated else _read_ballot)(piece.output, options)
        for piece in work.pieces
    }
    if not any(ballots.values()):
        raise JoinError(
            f"no vote to count: {len(work.missing)} of {work.total} parts are missing, no other says a word"
        )
    flags = [index for index, ballot in ballots.items() if ballot == FLAGGED]
    clears = [index for index, ballot in ballots.items() if ballot == CLEAR]
    flagged = len(flags) >= k
    agreed, others = (flags, clears) if flagged else (clears, flags)
    share = len(agreed) / (len(flags) + len(clears))
    details: dict[str, Any] = {
        "ballot": FLAGGED if flagged else CLEAR,
        "k": k,
        "n": work.total,
        "votes": len(agreed),
        "total": len(flags) + len(clears),
        "share": share,
        "confidence": share,
        "flags": flags,
        "clear": clears,
        "unread": [piece.index for piece in work.pieces if ballots[piece.index] and not _read_piece(piece, options)],
        "blank": [index for index, ballot in ballots.items() if not ballot],
        "dissent": [{"ballot": CLEAR if flagged else FLAGGED, "votes": len(others), "parts": others}] if others else [],
        "tie": [],
        **work.gaps(),
    }
    if options.false_alarms is not None:
        details["false_alarm"] = at_least(k, work.total, options.false_alarms)
    if options.misses is not None:
        details["miss"] = at_least(work.total - k + 1, work.total, options.misses)
    return Joined(options.says_flagged if flagged else options.says_clear, details, truncated=False)
