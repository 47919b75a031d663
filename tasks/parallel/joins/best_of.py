"""`best_of`: the best output in the eyes of a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, count
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import DistinctOutput, distinct_outputs
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.verdicts import PAIR_PROMPT, SCORE_PROMPT, Bench, Reply, read_reply
from tasks.parallel.joins.work import JoinAnswer, Joined, JoinQuestion, JoinQuestions, Work, listed

__all__ = ["BestOfOptions", "Bout", "Outcome", "best_of", "everyone", "knock_out"]

#: Takes of which every pair is compared (380 questions); more go through a tournament.
MOST_PAIRED = 20


class BestOfOptions(BaseModel):
    """What `join_options` may say to `best_of`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["tournament", "pairs", "scores"] = "tournament"
    #: What the judge is told, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: Where no reply of the judge can be used the job fails, or the first take is its answer.
    refused: Literal["error", "first"] = "error"


@joiner(kinds=("vote",), options=BestOfOptions, asks=True)
def best_of(work: Work) -> Joined | JoinQuestions:
    """Have a judge choose among the distinct takes.

    `confidence` is the share of its pairs that the winner won, ties half and pairs without a verdict nothing; for
    scores a tenth of its score; 1 for a take without another; 0 where no verdict could be used.
    """
    options = work.options if isinstance(work.options, BestOfOptions) else BestOfOptions()
    takes = distinct_outputs(work)
    if len(takes) == 1:
        return _joined(work, takes, 0, {"method": options.method, "confidence": 1.0})
    graded = options.method == "scores"
    bench = Bench(
        task=work.question, window=work.window, prompt=options.prompt or (SCORE_PROMPT if graded else PAIR_PROMPT)
    )
    if graded:
        return _by_scores(work, options, takes, bench)
    paired = options.method == "pairs" and len(takes) <= MOST_PAIRED
    outcome = (everyone if paired else knock_out)(takes, work.rounds, bench)
    if isinstance(outcome, JoinQuestions):
        return outcome
    method = {"method": "pairs" if paired else "tournament"}
    replies = [reply for bout in outcome.bouts for reply in bout.replies]
    said = method | _asked(replies) | _cut(bench, takes, 2)
    if not any(bout.usable for bout in outcome.bouts):
        return _without_verdict(work, options, takes, replies, said)
    return _joined(work, takes, outcome.winner, said | _compared(takes, outcome))


def _compared(takes: Sequence[DistinctOutput], outcome: Outcome) -> dict[str, Any]:
    winner = outcome.winner
    own = outcome.of(winner)
    against = [bout.opponent(winner) for bout in own if bout.usable and bout.orders(bout.opponent(winner))]
    return {
        "points": [{"index": take.index, "points": outcome.points(place)} for place, take in enumerate(takes)],
        # The place won, not the take.
        "inconsistent": sum(bout.usable and bout.orders(bout.one) == bout.orders(bout.other) == 1
                            for bout in outcome.bouts),
        "tie": [takes[place].index for place in outcome.level],
        "dissent": sorted(takes[place].index for place in against),
        "confidence": outcome.points(winner) / len(own),
    }  # fmt: skip


def _by_scores(
    work: Work, options: BestOfOptions, takes: Sequence[DistinctOutput], bench: Bench
) -> Joined | JoinQuestions:
    if not work.rounds:
        return JoinQuestions(tuple(bench.score(take.text, title=f"judge {take.index + 1}") for take in takes))
    if len(work.rounds[0]) != len(takes):
        raise JoinError(f"{len(work.rounds[0])} answers came to {len(takes)} questions of the join")
    replies = [read_reply(answer, "score") for answer in work.rounds[0]]
    said = {"method": "scores"} | _asked(replies) | _cut(bench, takes, 1)
    known = {place: reply.value for place, reply in enumerate(replies) if reply.fault is None}
    if not known:
        return _without_verdict(work, options, takes, replies, said)
    best = max(known, key=lambda place: (known[place], len(takes[place].indices), -place))
    equal = [takes[place].index for place, score in known.items() if score == known[best]]
    told = {
        "points": [
            {"index": take.index, "points": None if replies[place].fault else replies[place].value}
            for place, take in enumerate(takes)
        ],
        "tie": equal if len(equal) > 1 else [],
        "confidence": known[best] / 10,
    }
    return _joined(work, takes, best, said | told)


def _without_verdict(
    work: Work,
    options: BestOfOptions,
    takes: Sequence[DistinctOutput],
    replies: Sequence[Reply],
    said: Mapping[str, Any],
) -> Joined:
    faults = Counter(str(reply.fault) for reply in replies if reply.fault is not None)
    counted = ", ".join(f"{number} {fault}" for fault, number in sorted(faults.items()))
    reason = f"the judge gave no verdict on {len(takes)} takes: of {len(replies)} replies {counted}"
    reason += next((f" ({reply.error})" for reply in replies if reply.error), "")
    if options.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "first"')
    return _joined(work, takes, 0, {**said, "reason": reason, "confidence": 0.0})


def _asked(replies: Sequence[Reply]) -> dict[str, Any]:
    faults = Counter(reply.fault for reply in replies if reply.fault is not None)
    return {"questions": len(replies), "abstained": dict(faults)}


def _cut(bench: Bench, takes: Sequence[DistinctOutput], together: int) -> dict[str, Any]:
    return {"cut": [take.index for take in takes if not bench.fits(take.text, together)]}


def _joined(work: Work, takes: Sequence[DistinctOutput], best: int, said: Mapping[str, Any]) -> Joined:
    details = {
        "index": takes[best].index,
        "takes": len(takes),
        "same": list(takes[best].indices),
        "questions": 0,
        "abstained": {},
        "cut": [],
        "points": [],
        "inconsistent": 0,
        "tie": [],
        "dissent": [],
        "missing": listed(work.missing),
    }
    return Joined(takes[best].text, details | dict(said))


@dataclass(frozen=True, slots=True)
class Bout:
    """A pair of takes, by their places, and the replies about it: with `one` as A, then with `other` as A."""

    one: int
    other: int
    replies: tuple[Reply, Reply]

    @property
    def usable(self) -> bool:
        """One order alone proves nothing: it may be the place that won."""
        return all(reply.fault is None for reply in self.replies)

    def orders(self, place: int) -> int:
        """In how many of the two orders the take at `place` won; replies that can't be used count nothing."""
        letters = ("A", "B") if place == self.one else ("B", "A")
        return sum(reply.value == letter for reply, letter in zip(self.replies, letters, strict=True))

    def points(self, place: int) -> float:
        """1 for who won both orders, 1/2 each for anything else, 0 each where there is no verdict."""
        if not self.usable:
            return 0.0
        return {2: 1.0}.get(self.orders(place), 0.0 if self.orders(self.opponent(place)) == 2 else 0.5)

    def opponent(self, place: int) -> int:
        return self.other if place == self.one else self.one


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who won, the places of all that are as good by the points, the winner's first, and the bouts that said so."""

    winner: int
    level: tuple[int, ...]
    bouts: Sequence[Bout]

    def of(self, place: int) -> list[Bout]:
        return [bout for bout in self.bouts if place in {bout.one, bout.other}]

    def points(self, place: int) -> float:
        return sum(bout.points(place) for bout in self.of(place))


def knock_out(
    takes: Sequence[DistinctOutput], rounds: Sequence[Sequence[JoinAnswer]], bench: Bench
) -> Outcome | JoinQuestions:
    """Bouts of neighbours by index, n - 1 in all; who has no neighbour goes on.

    Of a tie goes on who won an order, then what more votes said, then the first. While no verdict could be used nobody
    is asked again.
    """
    bouts: list[Bout] = []
    field = list(range(len(takes)))
    for level in count():
        pairs = list(zip(field[::2], field[1::2], strict=False))
        if not pairs or (bouts and not any(bout.usable for bout in bouts)):
            break
        if level >= len(rounds):
            return JoinQuestions(_questions(takes, pairs, bench))
        played = _read(pairs, rounds[level])
        bouts += played
        rest = field[-1:] if len(field) % 2 else []
        field = [max((bout.one, bout.other), key=lambda place: _rank(takes, [bout], place)) for bout in played] + rest
    winner = field[0]
    equal = [bout.opponent(winner) for bout in bouts if winner in {bout.one, bout.other} and bout.points(winner) == 0.5]
    return Outcome(winner, (winner, *equal) if equal else (), bouts)


def everyone(
    takes: Sequence[DistinctOutput], rounds: Sequence[Sequence[JoinAnswer]], bench: Bench
) -> Outcome | JoinQuestions:
    """All n (n - 1) / 2 bouts. Most points win (Copeland); of equals who won more orders, then what more votes said."""
    pairs = list(combinations(range(len(takes)), 2))
    if not rounds:
        return JoinQuestions(_questions(takes, pairs, bench))
    bouts = _read(pairs, rounds[0])
    ranks = [_rank(takes, bouts, place) for place in range(len(takes))]
    winner = max(range(len(takes)), key=ranks.__getitem__)
    equal = [place for place, rank in enumerate(ranks) if rank[0] == ranks[winner][0] and place != winner]
    return Outcome(winner, (winner, *equal) if equal else (), bouts)


def _rank(takes: Sequence[DistinctOutput], bouts: Sequence[Bout], place: int) -> tuple[float, int, int, int]:
    own = [bout for bout in bouts if place in {bout.one, bout.other}]
    orders = sum(bout.orders(place) for bout in own if bout.usable)
    return sum(bout.points(place) for bout in own), orders, len(takes[place].indices), -place


def _questions(
    takes: Sequence[DistinctOutput], pairs: Sequence[tuple[int, int]], bench: Bench
) -> tuple[JoinQuestion, ...]:
    orders = chain.from_iterable((pair, pair[::-1]) for pair in pairs)
    return tuple(
        bench.pair(
            takes[one].text, takes[other].text, title=f"judge {takes[one].index + 1} against {takes[other].index + 1}"
        )
        for one, other in orders
    )


def _read(pairs: Sequence[tuple[int, int]], answers: Sequence[JoinAnswer]) -> list[Bout]:
    if len(answers) != 2 * len(pairs):
        raise JoinError(f"{len(answers)} answers came to {2 * len(pairs)} questions of the join")
    replies = [read_reply(answer, "pair") for answer in answers]
    return [Bout(*pair, (replies[2 * place], replies[2 * place + 1])) for place, pair in enumerate(pairs)]
