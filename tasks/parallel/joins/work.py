"""What a join reads and what it makes: values without a server. Also the missing parts and the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, JsonValue

from tasks.contract.errors import BadInput

__all__ = [
    "Join",
    "JoinAnswer",
    "JoinQuestion",
    "JoinQuestions",
    "Joined",
    "Missing",
    "Piece",
    "Work",
    "check_policy",
    "coverage",
    "gap",
    "gaps",
    "listed",
]


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
class JoinQuestion:
    """One call that a join needs of a model: it becomes one more part of the job, with all that goes with it."""

    #: What the model is sent as the user's message.
    text: str
    #: What it is told as system message: a text, or ``file:NAME`` for a prompt of the configuration.
    prompt: str
    #: What people know it by: "synthesis", "judge 1 against 2".
    title: str
    schema: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class JoinQuestions:
    """The join can't end yet: these questions are asked in parallel, and the join is done again with their answers."""

    questions: tuple[JoinQuestion, ...]


@dataclass(frozen=True, slots=True)
class JoinAnswer:
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
    rounds: Sequence[Sequence[JoinAnswer]] = ()


class Join(Protocol):
    """One way of making one answer of many parts.

    Raises:
        JoinError: where the pieces make no answer; the job fails with it.
    """

    def __call__(self, work: Work) -> Joined | JoinQuestions: ...


def listed(missing: Sequence[Missing]) -> list[dict[str, Any]]:
    """What is missing, as `details` tell it."""
    return [{"index": gap.index, "title": gap.title, "reason": gap.reason} for gap in missing]


#: Missing parts that are named under an answer one by one; `details` name all.
MOST_NAMED = 20


def gap(missing: Missing, noun: str = "section") -> str:
    """What stands in an answer for a part that is missing; people count from 1."""
    title = " ".join(missing.title.split())
    named = f" “{title}”" if title else ""
    return f"[{noun} {missing.index + 1}{named} is missing: {missing.reason}]"


def gaps(missing: Sequence[Missing], noun: str = "section") -> str:
    """The missing parts, one a line, "" for none; past `MOST_NAMED` they are only counted."""
    lines = [gap(one, noun) for one in missing[:MOST_NAMED]]
    if len(missing) > MOST_NAMED:
        lines.append(f"[{len(missing) - MOST_NAMED:,} more {noun}s are missing]")
    return "\n".join(lines)


def coverage(held: int, missing: int) -> float:
    """The confidence of an answer that is made of sections: the share of them that it holds."""
    return held / (held + missing) if held + missing else 0.0


def check_policy(
    policy: Literal["fail", "partial", "quorum"],
    quorum: int | None,
    succeeded: int,
    failed: int,
    *,
    parts: int | None = None,
) -> str | None:
    """None when a job with so many parts `succeeded` and `failed` may be joined, else the sentence why it failed.

    ``fail``: no part may fail. ``partial``: one must succeed. ``quorum``: `quorum` must succeed. Under every policy a
    job of which nothing succeeded fails. `parts` is how many there are where not all were waited for. Raises `BadInput`
    for the policy ``quorum`` without a `quorum` of at least 1.
    """
    parts = succeeded + failed if parts is None else parts
    if policy == "quorum" and (quorum is None or quorum < 1):
        raise BadInput("quorum", "the policy quorum needs a number of parts", "set quorum to 1 or more")
    if policy == "fail" and failed:
        return f"{failed} of {parts} parts failed and the policy is fail: every part must succeed"
    if policy == "quorum" and quorum is not None and succeeded < quorum:
        return f"{failed} of {parts} parts failed and the policy is quorum: {quorum} must succeed, {succeeded} did"
    if not succeeded:
        return f"{failed} of {parts} parts failed and the policy is {policy}: at least one must succeed"
    return None
