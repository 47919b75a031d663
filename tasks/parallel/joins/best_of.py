"""`best_of`: the best output by the verdicts of a judge, which compares pairs or gives scores. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, count
from typing import Any, Literal

from pydantic import Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import DistinctOutput, distinct_outputs
from tasks.parallel.joins.registry import JoinOptions, joiner
from tasks.parallel.joins.verdicts import PAIR_PROMPT, SCORE_PROMPT, JudgeQuestions, JudgeReply, read_reply
from tasks.parallel.joins.work import JoinAnswer, Joined, JoinQuestion, JoinQuestions, Work

#: Outputs of which every pair is compared (380 questions); more go through a tournament.
MOST_PAIRED = 20


class BestOfOptions(JoinOptions):
    """The `join_options` of `best_of`."""

    method: Literal["tournament", "pairs", "scores"] = "tournament"
    #: The system message of the judge, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: If no reply of the judge is usable: the job fails, or the first output is its answer.
    refused: Literal["error", "first"] = "error"


@joiner(kinds=("vote",), options=BestOfOptions, asks=True)
def best_of(work: Work) -> Joined | JoinQuestions:
    """Choose among the distinct outputs by a judge.

    `confidence` is the share of its pairs that the winner won: a tie counts half, a pair without a verdict nothing. For
    scores it is a tenth of the winner's score. It is 1 for an output without another, 0 without a usable verdict.
    """
    options = work.options_as(BestOfOptions)
    outputs = distinct_outputs(work)
    if len(outputs) == 1:
        return _make_joined(work, outputs, 0, {"method": options.method, "confidence": 1.0})
    by_scores = options.method == "scores"
    prompt = options.prompt or (SCORE_PROMPT if by_scores else PAIR_PROMPT)
    judge = JudgeQuestions(task=work.question, window=work.window, prompt=prompt)
    if by_scores:
        return _by_scores(work, options, outputs, judge)
    all_pairs = options.method == "pairs" and len(outputs) <= MOST_PAIRED
    standings = (_compare_all if all_pairs else _knock_out)(work, outputs, judge)
    if isinstance(standings, JoinQuestions):
        return standings
    replies = [reply for pair in standings.pairs for reply in pair.replies]
    details = {"method": "pairs" if all_pairs else "tournament"}
    details |= _count_replies(replies) | _list_shortened(judge, outputs, 2)
    if not any(pair.usable for pair in standings.pairs):
        return _without_verdict(work, options, outputs, replies, details)
    return _make_joined(work, outputs, standings.winner, details | _pair_details(outputs, standings))


def _by_scores(
    work: Work, options: BestOfOptions, outputs: Sequence[DistinctOutput], judge: JudgeQuestions
) -> Joined | JoinQuestions:
    if not work.rounds:
        return JoinQuestions(tuple(judge.score(one.text, title=f"judge {one.index + 1}") for one in outputs))
    replies = [read_reply(answer, "score") for answer in work.round_answers(0, len(outputs))]
    details = {"method": "scores"} | _count_replies(replies) | _list_shortened(judge, outputs, 1)
    scores = {place: reply.value for place, reply in enumerate(replies) if reply.fault is None}
    if not scores:
        return _without_verdict(work, options, outputs, replies, details)
    best = max(scores, key=lambda place: (scores[place], len(outputs[place].indices), -place))
    equal = [outputs[place].index for place, score in scores.items() if score == scores[best]]
    details |= {
        "points": [{"index": one.index, "points": scores.get(place)} for place, one in enumerate(outputs)],
        "tie": equal if len(equal) > 1 else [],
        "confidence": scores[best] / 10,
    }
    return _make_joined(work, outputs, best, details)


def _without_verdict(
    work: Work,
    options: BestOfOptions,
    outputs: Sequence[DistinctOutput],
    replies: Sequence[JudgeReply],
    details: Mapping[str, Any],
) -> Joined:
    faults = Counter(str(reply.fault) for reply in replies if reply.fault is not None)
    counted = ", ".join(f"{number} {fault}" for fault, number in sorted(faults.items()))
    reason = f"the judge gave no verdict on {len(outputs)} outputs: of {len(replies)} replies {counted}"
    reason += next((f" ({reply.error})" for reply in replies if reply.error), "")
    if options.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "first"')
    return _make_joined(work, outputs, 0, {**details, "reason": reason, "confidence": 0.0})


def _make_joined(work: Work, outputs: Sequence[DistinctOutput], best: int, details: Mapping[str, Any]) -> Joined:
    defaults = {
        "index": outputs[best].index,
        "takes": len(outputs),
        "same": list(outputs[best].indices),
        "questions": 0,
        "abstained": {},
        "cut": [],
        "points": [],
        "inconsistent": 0,
        "tie": [],
        "dissent": [],
        **work.gaps(),
    }
    return Joined(outputs[best].text, defaults | dict(details), work.is_cut(*outputs[best].indices))


def _count_replies(replies: Sequence[JudgeReply]) -> dict[str, Any]:
    faults = Counter(reply.fault for reply in replies if reply.fault is not None)
    return {"questions": len(replies), "abstained": dict(faults)}


def _list_shortened(judge: JudgeQuestions, outputs: Sequence[DistinctOutput], together: int) -> dict[str, Any]:
    return {"cut": [one.index for one in outputs if not judge.fits(one.text, together)]}


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two outputs, by their places, and the replies about them: first with `one` as A, then with `other` as A."""

    one: int
    other: int
    replies: tuple[JudgeReply, JudgeReply]

    @property
    def usable(self) -> bool:
        """Whether both orders have a verdict. A single one proves nothing: perhaps its position won."""
        return all(reply.fault is None for reply in self.replies)

    def orders_won(self, place: int) -> int:
        """Return in how many of the two orders the output at `place` won; unusable replies count as lost."""
        letters = ("A", "B") if place == self.one else ("B", "A")
        return sum(reply.value == letter for reply, letter in zip(self.replies, letters, strict=True))

    def points(self, place: int) -> float:
        """Return 1 if the output won both orders, 0 if it lost both or the pair is unusable, else 1/2."""
        if not self.usable or self.orders_won(self.opponent(place)) == 2:
            return 0.0
        return 1.0 if self.orders_won(place) == 2 else 0.5

    def opponent(self, place: int) -> int:
        return self.other if place == self.one else self.one


@dataclass(frozen=True, slots=True)
class _Standings:
    """The winner, the places with as many points (the winner's first; empty if it leads alone), and all pairs."""

    winner: int
    level: tuple[int, ...]
    pairs: Sequence[_Pair]

    def of(self, place: int) -> list[_Pair]:
        return [pair for pair in self.pairs if place in {pair.one, pair.other}]

    def points(self, place: int) -> float:
        return sum(pair.points(place) for pair in self.of(place))


def _pair_details(outputs: Sequence[DistinctOutput], standings: _Standings) -> dict[str, Any]:
    winner = standings.winner
    own = standings.of(winner)
    lost_to = [pair.opponent(winner) for pair in own if pair.usable and pair.orders_won(pair.opponent(winner))]
    return {
        "points": [{"index": one.index, "points": standings.points(place)} for place, one in enumerate(outputs)],
        # In these pairs the position won, not the output.
        "inconsistent": sum(
            pair.usable and pair.orders_won(pair.one) == pair.orders_won(pair.other) == 1 for pair in standings.pairs
        ),
        "tie": [outputs[place].index for place in standings.level],
        "dissent": sorted(outputs[place].index for place in lost_to),
        "confidence": standings.points(winner) / len(own),
    }


def _knock_out(work: Work, outputs: Sequence[DistinctOutput], judge: JudgeQuestions) -> _Standings | JoinQuestions:
    """Compare neighbours by index in rounds, n - 1 pairs in all; an output without a neighbour advances.

    A tie goes to the output that won an order, then to the one with more votes, then to the first. If a whole round has
    no usable verdict, no further question is asked.
    """
    pairs: list[_Pair] = []
    left = list(range(len(outputs)))
    for level in count():
        places = list(zip(left[::2], left[1::2], strict=False))
        if not places or (pairs and not any(pair.usable for pair in pairs)):
            break
        if level >= len(work.rounds):
            return JoinQuestions(_pair_questions(outputs, places, judge))
        compared = _read_pairs(places, work.round_answers(level, 2 * len(places)))
        pairs += compared
        rest = left[-1:] if len(left) % 2 else []
        left = [
            max((pair.one, pair.other), key=lambda place: _rank(outputs, [pair], place)) for pair in compared
        ] + rest
    winner = left[0]
    equal = [pair.opponent(winner) for pair in pairs if winner in {pair.one, pair.other} and pair.points(winner) == 0.5]
    return _Standings(winner, (winner, *equal) if equal else (), pairs)


def _compare_all(work: Work, outputs: Sequence[DistinctOutput], judge: JudgeQuestions) -> _Standings | JoinQuestions:
    """Compare all n (n - 1) / 2 pairs. Most points win (Copeland), then most orders won, then most votes."""
    places = list(combinations(range(len(outputs)), 2))
    if not work.rounds:
        return JoinQuestions(_pair_questions(outputs, places, judge))
    pairs = _read_pairs(places, work.round_answers(0, 2 * len(places)))
    ranks = [_rank(outputs, pairs, place) for place in range(len(outputs))]
    winner = max(range(len(outputs)), key=ranks.__getitem__)
    equal = [place for place, rank in enumerate(ranks) if rank[0] == ranks[winner][0] and place != winner]
    return _Standings(winner, (winner, *equal) if equal else (), pairs)


def _rank(outputs: Sequence[DistinctOutput], pairs: Sequence[_Pair], place: int) -> tuple[float, int, int, int]:
    own = [pair for pair in pairs if place in {pair.one, pair.other}]
    orders = sum(pair.orders_won(place) for pair in own if pair.usable)
    return sum(pair.points(place) for pair in own), orders, len(outputs[place].indices), -place


def _pair_questions(
    outputs: Sequence[DistinctOutput], places: Sequence[tuple[int, int]], judge: JudgeQuestions
) -> tuple[JoinQuestion, ...]:
    """Return two questions for each pair: the second with A and B swapped."""
    return tuple(
        judge.pair(
            outputs[one].text,
            outputs[other].text,
            title=f"judge {outputs[one].index + 1} against {outputs[other].index + 1}",
        )
        for one, other in chain.from_iterable((pair, pair[::-1]) for pair in places)
    )


def _read_pairs(places: Sequence[tuple[int, int]], answers: Sequence[JoinAnswer]) -> list[_Pair]:
    replies = [read_reply(answer, "pair") for answer in answers]
    return [_Pair(*pair, (replies[2 * at], replies[2 * at + 1])) for at, pair in enumerate(places)]
