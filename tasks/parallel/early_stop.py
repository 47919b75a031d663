"""When a vote needs no more ballots, and how many to ask for next. Pure; move.lua has the same rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from tasks.parallel.joins.majority import WeightedOptions, scale
from tasks.parallel.joins.registry import join_named, join_traits
from tasks.parallel.joins.threshold import FLAGGED, ThresholdOptions, least_flags
from tasks.parallel.votes.posterior import enough_votes
from tasks.parallel.votes.weights import Scale

__all__ = ["StopRule", "is_decided", "next_wave", "scale_of", "stop_rule_of"]


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a vote needs no more ballots; written into the job when it is planned.

    The tally goes from ballot to what its votes weigh together; a blank output or a failed part adds to no ballot.
    """

    #: The leader can't be caught: whatever the outstanding votes are, the answer stays. Lossless.
    exact: bool
    #: Beta: enough[b] is the least number of votes of a leader that stops the vote when the runner-up has b; () = off.
    enough: tuple[int, ...] = ()
    #: Threshold: the ballot that is counted …
    flag: str | None = None
    #: … and how many of it decide.
    k: int = 0
    #: The most that one outstanding vote may weigh.
    heaviest: float = 1.0


def stop_rule_of(
    *,
    join: str,
    options: BaseModel | None,
    n: int,
    early_stop: Literal["exact", "off"] | str,  # noqa: PYI051 - says what is meant
    confidence: float | None,
    weights: Mapping[str, float],
) -> StopRule | None:
    """When a vote of `n` parts that goes to `join` may end; None: every part is needed.

    Only a join that declares a ballot, and asks no model, stops early. One that we don't know counts as a majority: the
    ballot with the most votes wins. `confidence` is the chance, by the posterior over the two leaders, that the whole
    vote has the same winner (`votes.posterior`). It goes with votes that weigh the same: a posterior over
    weighted counts would promise what it can't hold; so it says nothing to a threshold, nor to weights that differ.
    """
    traits = join_traits(join_named(join))
    if n < 2 or traits.ballot is None or traits.asks:
        return None
    exact = early_stop == "exact"
    if join == "threshold":
        if not exact:
            return None
        chosen = options if isinstance(options, ThresholdOptions) else ThresholdOptions()
        return StopRule(exact=True, flag=FLAGGED, k=least_flags(chosen, n))
    weighing = scale_of(join, options, weights)
    enough = enough_votes(n, confidence) if confidence is not None and weighing.even else ()
    return StopRule(exact=exact, enough=enough, heaviest=weighing.heaviest) if exact or enough else None


def scale_of(join: str, options: BaseModel | None, weights: Mapping[str, float]) -> Scale:
    """What one vote adds to the tally, by the model that cast it: 1 but for the join ``weighted``.

    `weights` are those of the profiles; what the join's own options say of a model goes before them.
    """
    if join != "weighted":
        return Scale()
    return scale(options if isinstance(options, WeightedOptions) else WeightedOptions(), weights)


def is_decided(stopping: StopRule, tally: Mapping[str, float], remaining: int, *, in_order: bool = False) -> bool:
    """Whether the vote can end with `remaining` parts outstanding.

    Exact: the leader stays ahead even if all that is outstanding goes to the second, or to a ballot nobody has named
    yet. Strictly ahead, as who wins a tie depends on the indices of the votes, which the tally doesn't know; but with
    `in_order` (the tally is that of the first parts by index, what is outstanding comes after them) the leader would
    have got there first, and wins the tie. This can't be bettered: any rule that stops before has a continuation with
    another answer. With nothing outstanding it is always decided.
    """
    if remaining <= 0:
        return True
    if stopping.flag is not None:
        flags = tally.get(stopping.flag, 0)
        # As long as nobody has said anything it can't be cleared: nothing but failures and silence is no verdict.
        return flags >= stopping.k or (flags + remaining < stopping.k and any(tally.values()))
    first, second = _leading(tally)
    if stopping.exact:
        reach = second + remaining * stopping.heaviest
        if first > reach or (in_order and first >= reach):
            return True
    return bool(stopping.enough) and first >= stopping.enough[int(second)]


def next_wave(stopping: StopRule, tally: Mapping[str, float], remaining: int) -> int:
    """The least number of ballots, from 1 to `remaining`, that could decide the vote; 0 when nothing remains.

    For waves in the order of the indices, each asked when the one before is all there, so that `is_decided` holds
    `in_order`. No smaller wave can decide it, so none of these ballots is wasted: waves of this size ask for exactly as
    many as asking one by one would.
    """
    if remaining <= 0:
        return 0
    if stopping.flag is not None:
        flags = int(tally.get(stopping.flag, 0))
        return min(max(1, min(stopping.k - flags, flags + remaining - stopping.k + 1)), remaining)
    # All of them for the leader is what decides soonest.
    first, second = _leading(tally)
    least = remaining
    if stopping.exact and stopping.heaviest:
        # first + w·h >= second + (remaining - w)·h
        least = math.ceil((second - first + remaining * stopping.heaviest) / (2 * stopping.heaviest))
    if stopping.enough:
        least = min(least, stopping.enough[int(second)] - int(first))
    return min(max(1, least), remaining)


def _leading(tally: Mapping[str, float]) -> tuple[float, float]:
    """What the two heaviest ballots weigh."""
    first, second = [*sorted(tally.values(), reverse=True), 0, 0][:2]
    return first, second
