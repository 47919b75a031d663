"""Plays a join to its end, as the engine does; a function answers its questions, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel

from tasks.parallel.joins import Join, JoinAnswer, Joined, JoinQuestion, JoinQuestions, Missing, Piece, Work

__all__ = ["Played", "pieces", "play", "work"]

#: More rounds than a join of any permitted number of parts needs.
MOST_ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Played:
    """The answer, and the questions of each round."""

    joined: Joined
    rounds: Sequence[Sequence[JoinQuestion]]

    @property
    def questions(self) -> int:
        return sum(map(len, self.rounds))


def pieces(*outputs: str) -> list[Piece]:
    return [Piece(index, "", output) for index, output in enumerate(outputs)]


def work(
    *outputs: str,
    options: BaseModel | None = None,
    missing: Sequence[Missing] = (),
    question: str = "",
    window: int = 8_000,
) -> Work:
    """Work of untitled outputs."""
    parts = pieces(*outputs)
    return Work(parts, missing, len(parts) + len(missing), options, question, window=window)


def play(join: Join, given: Work, answers: Callable[[JoinQuestion], str | JoinAnswer]) -> Played:
    """Ask `answers` until the join has its answer.

    With up to 1,000 parts, each call is repeated and must have the same result.
    """
    rounds: list[tuple[JoinQuestion, ...]] = []
    replies: list[tuple[JoinAnswer, ...]] = []
    for _ in range(MOST_ROUNDS):
        now = replace(given, rounds=tuple(replies))
        result = join(now)
        assert len(given.pieces) > 1_000 or result == join(now)
        if isinstance(result, Joined):
            return Played(result, rounds)
        assert isinstance(result, JoinQuestions)
        assert result.questions
        rounds.append(result.questions)
        outputs = [answers(question) for question in result.questions]
        replies.append(tuple(answer if isinstance(answer, JoinAnswer) else JoinAnswer(answer) for answer in outputs))
    raise AssertionError(f"it still asks after {MOST_ROUNDS} rounds")
