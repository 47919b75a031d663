"""What a join reads and what it makes: values, no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, JsonValue

__all__ = ["Answer", "Ask", "Join", "Joined", "Missing", "Piece", "Question", "Work", "listed"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part that succeeded. `index` counts from 0 over all parts of the job; `title` is "" when it has none."""

    index: int
    title: str
    output: str
    #: The model that answered, "" where that is unknown or where the part was a job of its own.
    model: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """A part without an output. `reason` is shown in the answer, so it holds no prompt and no key."""

    index: int
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """One call that a join needs of a model: it becomes one more part of the job, with all that goes with it."""

    #: What the model is sent as the user's message.
    text: str
    #: What it is told as system message: a text, or ``file:NAME`` for a prompt of the configuration.
    prompt: str
    #: What people know it by: "synthesis", "judge 1 against 2".
    title: str
    schema: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """The join can't end yet: these questions are asked in parallel, and the join is done again with their answers."""

    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question. `output` is None where it failed, for the reason `error`."""

    output: str | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer of the job; `details` are JSON values that say how it came about."""

    output: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """All that a join may read. A join is a pure function of it: the same work gives the same answer, or questions."""

    #: In index order.
    pieces: Sequence[Piece]
    missing: Sequence[Missing]
    #: The parts that were planned: more than pieces and missing where the job was decided early.
    total: int
    #: The join's own options (`join_options` of the job), checked.
    options: BaseModel | None = None
    #: What the job was asked: its text, or the last user's message.
    question: str = ""
    #: JSON Schema that the job's answers keep.
    schema: Mapping[str, JsonValue] | None = None
    #: What the vote of each model weighs, from the profiles; a model that is not named weighs 1.
    weights: Mapping[str, float] = field(default_factory=dict)
    #: Tokens of input that one question may have (`tasks.contract.tokens`): what the asked models take, less room for
    #: their answer.
    window: int = 8_000
    #: The answers to the questions of each earlier round, in the order of the questions.
    rounds: Sequence[Sequence[Answer]] = ()


class Join(Protocol):
    """One way of making one answer of many parts.

    Raises:
        JoinError: where the pieces make no answer; the job fails with it.
    """

    def __call__(self, work: Work) -> Joined | Ask: ...


def listed(missing: Sequence[Missing]) -> list[dict[str, Any]]:
    """What is missing, as `details` tell it."""
    return [{"index": gap.index, "title": gap.title, "reason": gap.reason} for gap in missing]
