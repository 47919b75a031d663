"""Plays a join to its end, as the engine does: its questions are answered by a function, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel

from tasks.parallel.joins import Join, JoinAnswer, Joined, JoinQuestion, JoinQuestions, Missing, Piece, Work

__all__ = ["Played", "pieces", "play", "work"]

#: More rounds than any number of parts that fits into a job takes.
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

    Of up to 1,000 parts it is called twice each time, and must say the same.
    """
    rounds: list[tuple[JoinQuestion, ...]] = []
    replies: list[tuple[JoinAnswer, ...]] = []
    for _ in range(MOST_ROUNDS):
        now = replace(given, rounds=tuple(replies))
        said = join(now)
        assert len(given.pieces) > 1_000 or said == join(now)
        if isinstance(said, Joined):
            return Played(said, rounds)
        assert isinstance(said, JoinQuestions)
        assert said.questions
        rounds.append(said.questions)
        told = [answers(question) for question in said.questions]
        replies.append(tuple(answer if isinstance(answer, JoinAnswer) else JoinAnswer(answer) for answer in told))
    raise AssertionError(f"it still asks after {MOST_ROUNDS} rounds")
