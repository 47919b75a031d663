"""Make one answer of many parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks import votes
from tasks.errors import BadInput, JoinError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["JOINS", "Joined", "Missing", "Piece", "check_policy", "join"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part that succeeded. `index` counts from 0 over all parts of the job; `title` is "" when it has none."""

    index: int
    title: str
    output: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A part without an output. `reason` is shown in the answer, so it holds no prompt and no key."""

    index: int
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer of the job; `details` are JSON values that say how it came about."""

    output: str
    details: Mapping[str, Any]


def join(how: str, pieces: Sequence[Piece], missing: Sequence[Missing]) -> Joined:
    """One answer from `pieces` and `missing`, each in index order, by the join called `how`.

    Raises `BadInput` when there is no join of that name, `JoinError` when the pieces make no answer.
    """
    if how not in JOINS:
        raise BadInput("join", f"there is no join {how!r}", f"use one of: {', '.join(JOINS)}")
    return JOINS[how](pieces, missing)


def concatenate(pieces: Sequence[Piece], missing: Sequence[Missing]) -> Joined:
    """Put the outputs in index order, each under its title; what is missing is named in its place.

    People count from 1, so the answer does; `details` keep the index from 0.
    """
    if not pieces:
        raise JoinError(f"none of the {len(missing)} sections has an output")
    blocks = {piece.index: _titled(piece) for piece in pieces}
    blocks |= {gap.index: _gap(gap) for gap in missing}
    output = "\n\n".join(blocks[index] for index in sorted(blocks))
    return Joined(output, {"sections": len(pieces), "missing": _listed(missing)})


def majority(pieces: Sequence[Piece], missing: Sequence[Missing]) -> Joined:
    """Take the output most pieces agree on once normalised (`votes.normalize`); ties go as in `votes.count`.

    `share` is votes / total, where `total` are the outputs that were counted: neither missing parts nor blank ones.
    """
    counted = votes.count([piece.output for piece in pieces])
    if counted.winner is None:
        blank = f" ({len(pieces)} blank)" if pieces else ""
        raise JoinError(f"no vote to count: {len(missing)} of {len(pieces) + len(missing)} parts are missing{blank}")
    details = {
        "ballot": counted.ballot,
        "votes": counted.votes,
        "total": counted.total,
        "share": counted.votes / counted.total,
        "ballots": dict(counted.ballots),
        "tie": list(counted.tie),
        "missing": _listed(missing),
    }
    return Joined(counted.winner, details)


#: Every join, by the name a job asks for.
JOINS: Mapping[str, Callable[[Sequence[Piece], Sequence[Missing]], Joined]] = {
    "concatenate": concatenate,
    "majority": majority,
}


def check_policy(
    policy: Literal["fail", "partial", "quorum"],
    quorum: int | None,
    succeeded: int,
    failed: int,
) -> str | None:
    """None when a job with so many parts `succeeded` and `failed` may be joined, else the sentence why it failed.

    ``fail``: no part may fail. ``partial``: one must succeed. ``quorum``: `quorum` must succeed. Under every policy a
    job of which nothing succeeded fails. Raises `BadInput` for the policy ``quorum`` without a `quorum` of at least 1.
    """
    parts = succeeded + failed
    if policy == "quorum" and (quorum is None or quorum < 1):
        raise BadInput("quorum", "the policy quorum needs a number of parts", "set quorum to 1 or more")
    if policy == "fail" and failed:
        return f"{failed} of {parts} parts failed and the policy is fail: every part must succeed"
    if policy == "quorum" and quorum is not None and succeeded < quorum:
        return f"{failed} of {parts} parts failed and the policy is quorum: {quorum} must succeed, {succeeded} did"
    if not succeeded:
        return f"{failed} of {parts} parts failed and the policy is {policy}: at least one must succeed"
    return None


def _titled(piece: Piece) -> str:
    # Outer blank lines would add up with the ones between the blocks; inner ones and indentation are the model's.
    body = piece.output.strip("\n")
    title = " ".join(piece.title.split())
    return f"## {title}\n\n{body}" if title else body


def _gap(gap: Missing) -> str:
    title = " ".join(gap.title.split())
    named = f" “{title}”" if title else ""
    return f"[section {gap.index + 1}{named} is missing: {gap.reason}]"


def _listed(missing: Sequence[Missing]) -> list[dict[str, Any]]:
    return [{"index": gap.index, "title": gap.title, "reason": gap.reason} for gap in missing]
