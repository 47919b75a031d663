"""What a join reads and what it makes: plain values, with the wording for missing parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, JsonValue

from tasks.contract.errors import BadInput, JoinError

#: Missing parts that a text names one by one; `details` name all.
MOST_NAMED = 20

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part that succeeded. `index` counts from 0 over all parts of the job; `title` may be ""."""

    index: int
    title: str
    output: str
    #: The model that answered; "" where it is unknown or where the part was a child job.
    model: str = ""
    #: The end of the output is missing: it was cut at a bound of tokens.
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """A part without an output. `reason` is shown in the output of the job, so it holds no prompt and no key."""

    index: int
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class JoinQuestion:
    """One model call that a join needs. It becomes one more part of the job, with retries, limits and cost."""

    #: The user's message.
    text: str
    #: The system message: a text, or ``file:NAME`` for a prompt of the configuration.
    prompt: str
    #: The name of the part for people: "synthesis", "judge 1 against 2".
    title: str
    schema: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class JoinQuestions:
    """What a join returns that needs model calls first: they run in parallel, then the join runs again."""

    questions: tuple[JoinQuestion, ...]


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """The answer to a question. `output` is None where the call failed, for the reason `error`."""

    output: str | None
    error: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """The output of the job; `details` are JSON values that explain it."""

    output: str
    details: Mapping[str, Any]
    #: Whether the text of a part that was cut is in the output; None: if any part was cut.
    truncated: bool | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that a join may read. A join is a pure function: the same work gives the same output or questions."""

    #: In index order.
    pieces: Sequence[Piece]
    missing: Sequence[Missing]
    #: The planned parts: more than pieces and missing where the job was decided early.
    total: int
    #: The checked `join_options` of the job.
    options: BaseModel | None = None
    #: The job's text, or its last user message.
    question: str = ""
    #: The JSON Schema of the job's outputs.
    schema: Mapping[str, JsonValue] | None = None
    #: The weight of each model's vote, from the profiles; every other model's vote weighs 1.
    weights: Mapping[str, float] = field(default_factory=dict)
    #: Input tokens of one question at most (`tasks.contract.tokens`): the window of the asked models, less room for
    #: their answer.
    window: int = 8_000
    #: The answers to the questions of each earlier round, in the order of the questions.
    rounds: Sequence[Sequence[JoinAnswer]] = ()

    def options_as(self, kind: type[Options]) -> Options:
        """Return the options of the join, or its defaults where the job has none."""
        return self.options if isinstance(self.options, kind) else kind()

    def require_pieces(self, noun: str = "sections") -> None:
        """Raise `JoinError` if no part has an output."""
        if not self.pieces:
            raise JoinError(f"none of the {len(self.missing)} {noun} has an output")

    def is_cut(self, *indices: int) -> bool:
        """Return whether one of these parts was cut."""
        return any(piece.truncated and piece.index in indices for piece in self.pieces)

    def gaps(self) -> dict[str, Any]:
        """Return what `details` say of every join: the parts that are missing, and those whose end is."""
        cut = [{"index": piece.index, "title": piece.title} for piece in self.pieces if piece.truncated]
        return {"missing": missing_details(self.missing), "truncated": cut}

    def round_answers(self, level: int, questions: int) -> Sequence[JoinAnswer]:
        """Return the answers of a round; raise `JoinError` if they do not match its number of `questions`."""
        answers = self.rounds[level]
        if len(answers) != questions:
            raise JoinError(f"{len(answers)} answers came to {questions} questions of the join")
        return answers


class Join(Protocol):
    """Makes one output of many parts.

    Raises:
        JoinError: if the pieces make no output; the job fails with this error.
    """

    def __call__(self, work: Work) -> Joined | JoinQuestions: ...


def check_policy(
    policy: Literal["fail", "partial", "quorum"],
    quorum: int | None,
    succeeded: int,
    failed: int,
    *,
    parts: int | None = None,
) -> str | None:
    """Return None if a job with so many parts `succeeded` and `failed` may be joined, else why it fails.

    ``fail``: no part may fail. ``partial``: one must succeed. ``quorum``: `quorum` must succeed. A job without a
    succeeded part fails under every policy. `parts` is the number of all parts if the join did not wait for all.

    Raises:
        BadInput: for the policy ``quorum`` without a `quorum` of at least 1.
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


def coverage(held: int, missing: int) -> float:
    """Return the share of the parts that the output holds: the confidence of an output made of sections."""
    return held / (held + missing) if held + missing else 0.0


def missing_details(missing: Sequence[Missing]) -> list[dict[str, Any]]:
    """Return the missing parts as `details` hold them."""
    return [{"index": one.index, "title": one.title, "reason": one.reason} for one in missing]


def missing_note(missing: Missing, noun: str = "section") -> str:
    """Return the line that stands in an output for a missing part; it counts from 1, as people do."""
    title = " ".join(missing.title.split())
    named = f" “{title}”" if title else ""
    return f"[{noun} {missing.index + 1}{named} is missing: {missing.reason}]"


def with_missing_notes(output: str, missing: Sequence[Missing], noun: str = "section") -> str:
    """Append a line for each missing part to an output; beyond `MOST_NAMED` parts the last line gives their number."""
    lines = [missing_note(one, noun) for one in missing[:MOST_NAMED]]
    if len(missing) > MOST_NAMED:
        lines.append(f"[{len(missing) - MOST_NAMED:,} more {noun}s are missing]")
    return output + "\n\n" + "\n".join(lines) if lines else output
