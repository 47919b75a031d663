"""Takes compared in pairs: each pair twice, its places swapped; a knock-out, or everybody against everybody. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, count

from tasks.contract.errors import JoinError
from tasks.parallel.joins.takes import Take
from tasks.parallel.joins.values import Answer, Ask, Question
from tasks.parallel.joins.verdicts import Bench, Reply, read_reply

__all__ = ["Bout", "Outcome", "everyone", "knock_out"]


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


def knock_out(takes: Sequence[Take], rounds: Sequence[Sequence[Answer]], bench: Bench) -> Outcome | Ask:
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
            return Ask(_questions(takes, pairs, bench))
        played = _read(pairs, rounds[level])
        bouts += played
        rest = field[-1:] if len(field) % 2 else []
        field = [max((bout.one, bout.other), key=lambda place: _rank(takes, [bout], place)) for bout in played] + rest
    winner = field[0]
    equal = [bout.opponent(winner) for bout in bouts if winner in {bout.one, bout.other} and bout.points(winner) == 0.5]
    return Outcome(winner, (winner, *equal) if equal else (), bouts)


def everyone(takes: Sequence[Take], rounds: Sequence[Sequence[Answer]], bench: Bench) -> Outcome | Ask:
    """All n (n - 1) / 2 bouts. Most points win (Copeland); of equals who won more orders, then what more votes said."""
    pairs = list(combinations(range(len(takes)), 2))
    if not rounds:
        return Ask(_questions(takes, pairs, bench))
    bouts = _read(pairs, rounds[0])
    ranks = [_rank(takes, bouts, place) for place in range(len(takes))]
    winner = max(range(len(takes)), key=ranks.__getitem__)
    equal = [place for place, rank in enumerate(ranks) if rank[0] == ranks[winner][0] and place != winner]
    return Outcome(winner, (winner, *equal) if equal else (), bouts)


def _rank(takes: Sequence[Take], bouts: Sequence[Bout], place: int) -> tuple[float, int, int, int]:
    own = [bout for bout in bouts if place in {bout.one, bout.other}]
    orders = sum(bout.orders(place) for bout in own if bout.usable)
    return sum(bout.points(place) for bout in own), orders, len(takes[place].indices), -place


def _questions(takes: Sequence[Take], pairs: Sequence[tuple[int, int]], bench: Bench) -> tuple[Question, ...]:
    orders = chain.from_iterable((pair, pair[::-1]) for pair in pairs)
    return tuple(
        bench.pair(
            takes[one].text, takes[other].text, title=f"judge {takes[one].index + 1} against {takes[other].index + 1}"
        )
        for one, other in orders
    )


def _read(pairs: Sequence[tuple[int, int]], answers: Sequence[Answer]) -> list[Bout]:
    if len(answers) != 2 * len(pairs):
        raise JoinError(f"{len(answers)} answers came to {2 * len(pairs)} questions of the join")
    replies = [read_reply(answer, "pair") for answer in answers]
    return [Bout(*pair, (replies[2 * place], replies[2 * place + 1])) for place, pair in enumerate(pairs)]
