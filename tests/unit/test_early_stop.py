"""Early stop of votes: with the answer of the whole vote, and as early as possible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract.errors import BadInput
from tasks.parallel.early_stop import StopRule, is_decided, next_wave, scale_of, stop_rule_of
from tasks.parallel.joins import JOINS, Missing, Piece, Work
from tasks.parallel.joins.threshold import CLEAR, FLAGGED
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.posterior import enough_votes, posterior

EXACT = StopRule(exact=True)
#: Three ballots and an abstention: more ballots add no new case.
BALLOTS = ("a", "b", "c", "")
PLAIN: Mapping[str, Any] = {"options": None, "confidence": None, "weights": {}, "early_stop": "exact"}


def staying(first, second, n):
    """The chance that a leader by `first` votes to `second` still leads, or ties, after `n` votes, in closed form."""
    marked, drawn = first + second + 1, (n + 1) // 2
    ways = sum(
        math.comb(marked, hits) * math.comb(n + 1 - marked, drawn - hits) for hits in range(min(first, drawn) + 1)
    )
    return float(Fraction(ways, math.comb(n + 1, drawn)))


def tally_of(ballots: Sequence[str]) -> dict[str, float]:
    return dict(count([Vote(index, ballot, ballot) for index, ballot in enumerate(ballots)]).ballots)


def winner_of(ballots: Sequence[str], weights: Sequence[float] | None = None) -> str:
    weights = weights or [1.0] * len(ballots)
    votes = [Vote(at, ballot, ballot, weight) for at, (ballot, weight) in enumerate(zip(ballots, weights, strict=True))]
    winner = count(votes).winner
    return winner.ballot if winner is not None else ""


def prefixes(stopping: StopRule, ballots: Sequence[str]) -> Iterator[tuple[int, bool]]:
    """Yield each number of ballots seen in order, and whether they decide the vote."""
    for seen in range(len(ballots) + 1):
        yield seen, is_decided(stopping, tally_of(ballots[:seen]), len(ballots) - seen, in_order=True)


def one_by_one(stopping: StopRule, ballots: Sequence[str]) -> int:
    return next(seen for seen, is_decided in prefixes(stopping, ballots) if is_decided)


def in_waves(stopping: StopRule, ballots: Sequence[str]) -> int:
    seen = 0
    while not is_decided(stopping, tally_of(ballots[:seen]), len(ballots) - seen, in_order=True):
        seen += next_wave(stopping, tally_of(ballots[:seen]), len(ballots) - seen)
    return seen


@pytest.mark.parametrize("n", range(1, 8))
def test_is_decided_in_order_keeps_the_winner_of_the_whole_vote(n):
    for ballots in product(BALLOTS, repeat=n):
        seen = one_by_one(EXACT, ballots)

        assert winner_of(ballots[:seen]) == winner_of(ballots), (ballots, seen)


@pytest.mark.parametrize("n", range(1, 6))
def test_is_decided_in_any_order_keeps_the_winner_of_the_whole_vote(n):
    for ballots in product(BALLOTS, repeat=n):
        for size in range(n + 1):
            for arrived in combinations(range(n), size):
                seen = [ballots[index] for index in arrived]
                if is_decided(EXACT, tally_of(seen), n - size):
                    assert winner_of(seen) == winner_of(ballots), (ballots, arrived)


@pytest.mark.parametrize("n", range(1, 7))
def test_is_decided_in_order_is_the_earliest_lossless_stop(n):
    # given every vote that goes on after so many ballots
    for seen in range(n):
        for ballots in product(BALLOTS, repeat=seen):
            if is_decided(EXACT, tally_of(ballots), n - seen, in_order=True):
                continue
            # then what is outstanding can make more than one winner
            runner = sorted(tally_of(ballots).items(), key=lambda item: -item[1])
            rivals = [ballot for ballot, _ in runner[:2]] + ["new", "newer"]
            winners = {winner_of([*ballots, *[rival] * (n - seen)]) for rival in rivals}
            assert len(winners) > 1, ballots


@pytest.mark.parametrize("n", range(1, 6))
def test_is_decided_with_different_weights_keeps_the_winner(n):
    weights = (0.5, 1.0, 1.75)
    stopping = StopRule(exact=True, heaviest=1.75)
    ways = list(product("ab", weights))
    for cast in product([*ways, ("", 1.0)], repeat=n):
        ballots, weighing = [ballot for ballot, _ in cast], [weight for _, weight in cast]
        votes = [Vote(index, ballot, "", weight) for index, (ballot, weight) in enumerate(cast)]
        for seen in range(n):
            if is_decided(stopping, count(votes[:seen]).ballots, n - seen, in_order=True):
                assert winner_of(ballots[:seen], weighing[:seen]) == winner_of(ballots, weighing), cast
                break


@settings(max_examples=300)
@given(
    data=st.data(),
    weights=st.dictionaries(st.sampled_from("xyz"), st.floats(0, 9), max_size=3),
    other=st.floats(0, 9),
    cast=st.lists(st.tuples(st.sampled_from(BALLOTS), st.sampled_from("wxyz")), min_size=2, max_size=9),
)
def test_is_decided_with_any_weights_and_any_arrival_keeps_the_winner(data, weights, other, cast):
    # given weights from the options and the profiles, and votes that arrive in any order
    options = JOINS.options("weighted", {"weights": weights, "other": other})
    stopping = stop_rule_of(join="weighted", n=len(cast), **PLAIN | {"options": options, "weights": {"x": 3.3}})
    scale = scale_of("weighted", options, {"x": 3.3})
    votes = [Vote(index, ballot, "", scale.of(model)) for index, (ballot, model) in enumerate(cast)]
    arrival = data.draw(st.permutations(range(len(cast))))
    whole = count(votes)
    assert stopping is not None

    for seen in range(1, len(cast)):
        part = count([votes[index] for index in sorted(arrival[:seen])])
        if is_decided(stopping, part.ballots, len(cast) - seen) and stopping.heaviest:
            # then the first moment it is decided names the winner of the whole vote
            assert part.winner is not None
            assert whole.winner is not None
            assert part.winner.ballot == whole.winner.ballot
            break


def test_weights_without_an_exact_binary_number_still_tie():
    # given three votes of 0.1 against one of 0.3, which are not equal as they stand
    scale = scale_of("weighted", JOINS.options("weighted", {"weights": {"small": 0.1, "large": 0.3}}), {})
    small, large = scale.of("small"), scale.of("large")

    # then they are as far apart as the scale rounds them, whichever way they are added
    assert small + small + large == large + small + small
    assert (small * 1024, large * 1024) == (102, 307)


@pytest.mark.parametrize(
    "stopping",
    [
        EXACT,
        StopRule(exact=False, enough=enough_votes(7, 0.9)),
        StopRule(exact=True, enough=enough_votes(7, 0.9)),
        StopRule(exact=True, enough=enough_votes(7, 0.6)),
    ],
)
def test_next_wave_asks_for_as_many_as_asking_one_by_one(stopping):
    for ballots in product(BALLOTS, repeat=7):
        assert in_waves(stopping, ballots) == one_by_one(stopping, ballots), ballots


@pytest.mark.parametrize("k", range(1, 7))
def test_next_wave_of_a_threshold_keeps_the_number_and_the_verdict(k):
    n = 6
    join, options = JOINS.named("threshold"), JOINS.options("threshold", {"k": k})
    stopping = stop_rule_of(join="threshold", n=n, **PLAIN | {"options": options})
    assert stopping == StopRule(exact=True, flag=FLAGGED, k=k)
    for ballots in product((FLAGGED, CLEAR, ""), repeat=n):
        seen = in_waves(stopping, ballots)
        assert seen == one_by_one(stopping, ballots), ballots
        if any(ballots):
            verdicts = {join(work_of(part, n, options)).output for part in (ballots[:seen], ballots)}
            assert len(verdicts) == 1, ballots


def work_of(ballots: Sequence[str], n: int, options: Any) -> Work:
    pieces = [Piece(index, "", ballot) for index, ballot in enumerate(ballots) if ballot]
    missing = [Missing(index, "", "timed out") for index, ballot in enumerate(ballots) if not ballot]
    return Work(pieces, missing, n, options)


def test_is_decided_clears_no_threshold_by_blank_outputs_alone():
    stopping = StopRule(exact=True, flag=FLAGGED, k=5)

    assert not is_decided(stopping, {}, 4)
    assert is_decided(stopping, {CLEAR: 1}, 4)


@pytest.mark.parametrize(("n", "waves"), [(2, 1), (3, 2), (4, 2), (5, 3), (40, 20), (1000, 500)])
def test_next_wave_of_an_exact_vote_begins_with_half_of_it(n, waves):
    assert next_wave(EXACT, {}, n) == waves


def test_next_wave_has_at_least_one_ballot_and_at_most_the_remaining():
    assert next_wave(EXACT, {"a": 5}, 1) == 1
    assert next_wave(StopRule(exact=False, enough=(3, 3, 3, 6, 6, 6)), {"a": 1, "b": 1, "c": 1, "d": 1}, 1) == 1
    assert next_wave(EXACT, {"a": 1}, 0) == 0


def test_is_decided_gives_a_possible_tie_to_the_leader_only_in_order():
    assert not is_decided(EXACT, {"a": 3, "b": 1}, 2)
    assert is_decided(EXACT, {"a": 3, "b": 1}, 2, in_order=True)
    assert not is_decided(EXACT, {"a": 2}, 3, in_order=True)
    assert is_decided(EXACT, {}, 0)
    assert not is_decided(EXACT, {}, 1, in_order=True)


@pytest.mark.parametrize("confidence", [0.3, 0.5, 0.75, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 17, 40])
def test_enough_votes_follow_from_the_posterior(n, confidence):
    table = enough_votes(n, confidence)

    assert len(table) == n + 1
    for second, least in enumerate(table):
        sure = [first for first in range(second + 1, n - second + 1) if staying(first, second, n) >= confidence]
        assert least == (sure[0] if sure else n + 1)


@pytest.mark.parametrize(
    ("first", "second", "chance"), [(0, 0, 0.5), (1, 0, 0.75), (4, 0, 31 / 32), (3, 0, 15 / 16), (2, 1, 11 / 16)]
)
def test_posterior_is_that_of_the_beta_distribution(first, second, chance):
    assert posterior(first, second) == chance


@pytest.mark.parametrize("n", [3, 6, 9, 12])
def test_staying_is_the_chance_by_polyas_urn(n):
    for first in range(1, n + 1):
        for second in range(min(first, n - first + 1)):
            assert staying(first, second, n) == pytest.approx(urn(first, second, n))


def urn(first: int, second: int, n: int) -> float:
    """Draw by draw: the next vote goes to the leader with chance (first + 1) / (first + second + 2)."""
    if not (outstanding := n - first - second):
        return float(first >= second)

    def step(leader: int, rival: int, left: int) -> float:
        if not left:
            return float(leader >= rival)
        chance = (leader + 1) / (leader + rival + 2)
        return chance * step(leader + 1, rival, left - 1) + (1 - chance) * step(leader, rival + 1, left - 1)

    return step(first, second, outstanding)


def test_staying_of_infinite_voters_is_the_posterior():
    assert staying(6, 2, 100_000) == pytest.approx(posterior(6, 2), abs=1e-4)


def test_enough_votes_for_certainty_are_beyond_reach():
    assert staying(3, 0, 5) == 1
    assert staying(2, 0, 4) == 1
    assert staying(2, 0, 5) == 0.95


@given(st.integers(0, 60), st.integers(0, 60))
def test_posterior_is_even_for_a_tie_and_symmetric(first, second):
    assert posterior(first, second) + posterior(second, first) == pytest.approx(1)


def test_posterior_and_enough_votes_take_a_thousand_votes():
    assert len(enough_votes(1000, 0.95)) == 1001
    assert posterior(1000, 0) == pytest.approx(1)


def test_confidence_stops_a_clear_vote_where_exact_goes_on():
    stopping = stop_rule_of(join="majority", n=40, **PLAIN | {"confidence": 0.95})

    assert stopping is not None
    assert stopping.exact
    assert is_decided(stopping, {"a": 3}, 37)
    assert not is_decided(stopping, {"a": 4, "b": 1}, 35)
    assert next_wave(stopping, {}, 40) == 3


def test_confidence_alone_may_stop_where_exact_is_off():
    stopping = stop_rule_of(join="majority", n=6, **PLAIN | {"early_stop": "off", "confidence": 0.99})

    assert stopping is not None
    assert not stopping.exact
    assert is_decided(stopping, {"a": 3}, 3)
    assert not is_decided(stopping, {"a": 2, "b": 1, "c": 1}, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"join": "majority", "n": 5, "early_stop": "off"},
        {"join": "majority", "n": 1},
        {"join": "median", "n": 5},
        {"join": "ranked", "n": 5, "confidence": 0.9},
        {"join": "threshold", "n": 5, "early_stop": "off", "confidence": 0.9},
        {"join": "weighted", "n": 5, "early_stop": "off", "confidence": 0.9, "weights": {"a": 2.0}},
    ],
)
def test_stop_rule_of_a_join_that_needs_every_part_is_none(changes):
    assert stop_rule_of(**PLAIN | changes) is None


def test_stop_rule_of_different_weights_ignores_confidence():
    even = stop_rule_of(join="weighted", n=5, **PLAIN | {"confidence": 0.9})
    uneven = stop_rule_of(join="weighted", n=5, **PLAIN | {"confidence": 0.9, "weights": {"a": 2.0}})

    assert even is not None
    assert even.enough
    assert uneven == StopRule(exact=True, heaviest=2.0)


def test_stop_rule_of_a_threshold_refuses_more_flags_than_votes():
    options = JOINS.options("threshold", {"k": 6})

    with pytest.raises(BadInput, match=r"join_options\.k: is 6, but there are 5 votes"):
        stop_rule_of(join="threshold", n=5, **PLAIN | {"options": options})
