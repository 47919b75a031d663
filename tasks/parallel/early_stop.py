"""Early stop of votes: when a vote is decided, and the size of the next wave. Pure; move.lua has the same rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from tasks.parallel.joins.majority import WeightedOptions, scale
from tasks.parallel.joins.registry import JOINS
from tasks.parallel.joins.threshold import FLAGGED, ThresholdOptions, least_flags
from tasks.parallel.votes.posterior import enough_votes
from tasks.parallel.votes.weights import Scale


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a vote is decided. The ledger keeps the rule with the job.

    A tally maps each ballot to the weight of its votes; blank outputs and failed parts count for no ballot.
    """

    #: Lossless: stop when no outcome of the outstanding votes can change the winner.
    exact: bool
    #: Confidence: enough[b] are the votes of a leader that stop the vote if the runner-up has b; () turns it off.
    enough: tuple[int, ...] = ()
    #: Threshold: the counted ballot …
    flag: str | None = None
    #: … and the number of its votes that decides.
    k: int = 0
    #: The highest weight of one outstanding vote.
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
    """Return the rule for a vote of `n` parts with this join; None if the join needs every part.

    A vote stops early only if its join declares a ballot and asks no model. A custom join counts as a majority: the
    ballot with the most votes wins. `confidence` is the probability that the whole vote has the same winner, by the
    posterior over the two leaders (`tasks.parallel.votes.posterior`). The posterior holds for equal weights only, so
    `confidence` has no effect on a threshold or on different weights.
    """
    traits = JOINS.traits(join)
    if n < 2 or traits.ballot is None or traits.asks:
        return None
    exact = early_stop == "exact"
    if join == "threshold":
        if not exact:
            return None
        flags = options if isinstance(options, ThresholdOptions) else ThresholdOptions()
        return StopRule(exact=True, flag=FLAGGED, k=least_flags(flags, n))
    vote_scale = scale_of(join, options, weights)
    enough = enough_votes(n, confidence) if confidence is not None and vote_scale.even else ()
    return StopRule(exact=exact, enough=enough, heaviest=vote_scale.heaviest) if exact or enough else None


def scale_of(join: str, options: BaseModel | None, weights: Mapping[str, float]) -> Scale:
    """Return the weight of each model's vote in the tally: 1 except for the join ``weighted``.

    `weights` are those of the profiles; the options of the join override them.
    """
    if join != "weighted":
        return Scale()
    return scale(options if isinstance(options, WeightedOptions) else WeightedOptions(), weights)


def is_decided(stopping: StopRule, tally: Mapping[str, float], remaining: int, *, in_order: bool = False) -> bool:
    """Whether the vote is decided with `remaining` parts outstanding; always true with none.

    Exact: the leader stays strictly ahead even if all outstanding votes go to the second ballot, or to a new one. A tie
    is not enough, since its winner depends on the indices of the votes, which the tally lacks. With `in_order` (the
    tally holds the first parts by index, the outstanding ones come after them) the leader reached the number first, so
    it also wins a tie. No lossless rule stops earlier: any earlier stop has a continuation with another winner.
    """
    if remaining <= 0:
        return True
    if stopping.flag is not None:
        flags = tally.get(stopping.flag, 0)
        # Without a single ballot the vote can't be cleared: failures and blank outputs alone are no verdict.
        return flags >= stopping.k or (flags + remaining < stopping.k and any(tally.values()))
    first, second = _leading_weights(tally)
    if stopping.exact:
        reach = second + remaining * stopping.heaviest
        if first > reach or (in_order and first >= reach):
            return True
    return bool(stopping.enough) and first >= stopping.enough[int(second)]


def next_wave(stopping: StopRule, tally: Mapping[str, float], remaining: int) -> int:
    """Return the least number of ballots, from 1 to `remaining`, that could decide the vote; 0 if none remain.

    For waves in index order, each sent after the one before is complete, so that `is_decided` may use `in_order`. No
    smaller wave can decide the vote, so no ballot is wasted: waves of this size ask for exactly as many ballots as
    asking one by one would.
    """
    if remaining <= 0:
        return 0
    if stopping.flag is not None:
        flags = int(tally.get(stopping.flag, 0))
        return min(max(1, min(stopping.k - flags, flags + remaining - stopping.k + 1)), remaining)
    # The vote is decided soonest if all these ballots are for the leader.
    first, second = _leading_weights(tally)
    least = remaining
    if stopping.exact and stopping.heaviest:
        # first + w·h >= second + (remaining - w)·h
        least = math.ceil((second - first + remaining * stopping.heaviest) / (2 * stopping.heaviest))
    if stopping.enough:
        least = min(least, stopping.enough[int(second)] - int(first))
    return min(max(1, least), remaining)


def _leading_weights(tally: Mapping[str, float]) -> tuple[float, float]:
    """Return the weights of the two heaviest ballots."""
    first, second = [*sorted(tally.values(), reverse=True), 0, 0][:2]
    return first, second
