"""One text that a model writes of all outputs, with citations to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from tasks.contract.schema import check_schema
from tasks.parallel.joins.citations import citations
from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.gaps import coverage, gaps
from tasks.parallel.joins.material import DATA
from tasks.parallel.joins.refusal import is_refusal
from tasks.parallel.joins.tree import Plan, Tree, grow
from tasks.parallel.joins.values import Ask, Joined, Work, listed

__all__ = ["SynthesisOptions", "details_of", "synthesis"]

#: What the last question is asked with.
PROMPT = (
    "You write one text out of numbered parts, or out of summaries of them. Unite what they share, keep figures and "
    "names, and say where they contradict one another. After each statement cite the parts that it rests on by their "
    "numbers in brackets, such as [2] or [1][4]: the numbers before the parts, or those that the summaries cite. Cite "
    "no number that isn't there, and add nothing that the parts don't say. "
    f"{DATA} Reply with the text alone."
)
#: What the questions before it are asked with.
REDUCE_PROMPT = (
    "You condense numbered parts, or summaries of them, for somebody who will read nothing but your text. Keep what "
    "matters to the whole: findings, figures, names, contradictions. After each statement keep the numbers in brackets "
    "of the parts that it rests on, such as [12] or [3][7], exactly as they are: never count anew. "
    f"{DATA} Reply with the text alone."
)


class SynthesisOptions(BaseModel):
    """What `join_options` may say to `synthesis`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What the model is told for the last question: a text, or ``file:NAME``; null: `PROMPT`.
    prompt: str | None = Field(default=None, min_length=1)
    #: What it is told for the questions before, where the parts don't fit into one; null: `REDUCE_PROMPT`.
    reduce_prompt: str | None = Field(default=None, min_length=1)
    #: Most parts of one question, where they fit into it; more are condensed in groups first.
    max_parts: int = Field(default=100, ge=2, le=1000)
    #: Most parts of a group.
    fan_in: int = Field(default=20, ge=2, le=1000)
    #: Whether it goes on without the parts of a group whose question failed.
    partial: bool = False
    #: JSON Schema of the answer; `response_schema` of the job is that of each part.
    result_schema: Mapping[str, JsonValue] | None = None

    @field_validator("result_schema")
    @classmethod
    def _checkable(cls, value: Mapping[str, JsonValue] | None) -> Mapping[str, JsonValue] | None:
        if value is not None:
            check_schema(value)
        return value


@joiner(kinds=("sections", "vote"), options=SynthesisOptions, asks=True)
def synthesis(work: Work) -> Joined | Ask:
    """Ask a model for one text of all outputs; where they outgrow its window, for summaries of groups before.

    Parts are cited by their numbers from 1, also through summaries; `details` say which were cited, which never, and
    which numbers belong to no part. `confidence` is the share of the parts that went into the text, and 0 where the
    model refused by the looks of it (`tasks.parallel.joins.refusal`).
    """
    options = work.options if isinstance(work.options, SynthesisOptions) else SynthesisOptions()
    plan = Plan(
        name="synthesis",
        prompt=options.prompt or PROMPT,
        reduce_prompt=options.reduce_prompt or REDUCE_PROMPT,
        fan_in=options.fan_in,
        most=options.max_parts,
        partial=options.partial,
        schema=options.result_schema,
    )
    tree = grow(work, plan)
    if isinstance(tree, Ask):
        return tree
    lost = set(tree.lost)
    found = citations(tree.output, [piece.index for piece in work.pieces if piece.index not in lost])
    told = {"cited": list(found.cited), "uncited": list(found.uncited), "unknown": list(found.unknown)}
    output = tree.output
    if work.missing and options.result_schema is None:
        output = f"{output}\n\n{gaps(work.missing, 'part')}"
    return Joined(output, told | details_of(work, tree, cited=bool(found.cited)))


def details_of(work: Work, tree: Tree, *, cited: bool = False) -> dict[str, Any]:
    """How an answer came about that a tree of questions made; one that is `cited` from its parts is no refusal."""
    held = len(work.pieces) - len(tree.lost)
    refused = not cited and is_refusal(tree.output)
    return {
        "sections": held,
        "questions": tree.questions,
        "rounds": tree.rounds,
        "cut": tree.cut,
        "cut_answers": tree.cut_answers,
        "lost": tree.lost,
        "missing": listed(work.missing),
        "refused": refused,
        "confidence": 0.0 if refused else coverage(held, len(tree.lost) + len(work.missing)),
    }
