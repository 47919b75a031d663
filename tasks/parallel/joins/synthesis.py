"""`synthesis` and `reduction`: one text that a model writes of all outputs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from tasks.contract.schema import check_schema
from tasks.parallel.joins.material import DATA
from tasks.parallel.joins.refusal import is_refusal
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.tree import Plan, Tree, grow
from tasks.parallel.joins.work import Joined, JoinQuestions, Work, coverage, gaps, listed

__all__ = [
    "Citations",
    "ReductionOptions",
    "SynthesisOptions",
    "citations",
    "details_of",
    "numbers_in",
    "reduction",
    "synthesis",
]

#: What the last question is asked with.
SYNTHESIS_PROMPT = (
    "You write one text out of numbered parts, or out of summaries of them. Unite what they share, keep figures and "
    "names, and say where they contradict one another. After each statement cite the parts that it rests on by their "
    "numbers in brackets, such as [2] or [1][4]: the numbers before the parts, or those that the summaries cite. Cite "
    "no number that isn't there, and add nothing that the parts don't say. "
    f"{DATA} Reply with the text alone."
)
#: What the questions before it are asked with.
CONDENSE_PROMPT = (
    "You condense numbered parts, or summaries of them, for somebody who will read nothing but your text. Keep what "
    "matters to the whole: findings, figures, names, contradictions. After each statement keep the numbers in brackets "
    "of the parts that it rests on, such as [12] or [3][7], exactly as they are: never count anew. "
    f"{DATA} Reply with the text alone."
)


class SynthesisOptions(BaseModel):
    """What `join_options` may say to `synthesis`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What the model is told for the last question: a text, or ``file:NAME``; null: `SYNTHESIS_PROMPT`.
    prompt: str | None = Field(default=None, min_length=1)
    #: What it is told for the questions before, where the parts don't fit into one; null: `CONDENSE_PROMPT`.
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
def synthesis(work: Work) -> Joined | JoinQuestions:
    """JoinQuestions a model for one text of all outputs; where they outgrow its window, for summaries of groups before.

    Parts are cited by their numbers from 1, also through summaries; `details` say which were cited, which never, and
    which numbers belong to no part. `confidence` is the share of the parts that went into the text, and 0 where the
    model refused by the looks of it (`tasks.parallel.joins.refusal`).
    """
    options = work.options if isinstance(work.options, SynthesisOptions) else SynthesisOptions()
    plan = Plan(
        name="synthesis",
        prompt=options.prompt or SYNTHESIS_PROMPT,
        reduce_prompt=options.reduce_prompt or CONDENSE_PROMPT,
        fan_in=options.fan_in,
        most=options.max_parts,
        partial=options.partial,
        schema=options.result_schema,
    )
    tree = grow(work, plan)
    if isinstance(tree, JoinQuestions):
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


#: What every question is asked with.
REDUCTION_PROMPT = (
    "You merge several results of the same kind into one result of that kind. Keep everything once, drop repetitions, "
    f"and where they contradict one another keep both, and say so. {DATA} "
    "Reply with the merged result alone, in the form that the results have."
)


class ReductionOptions(BaseModel):
    """What `join_options` may say to `reduction`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What the model is told, in every round: a text, or ``file:NAME``; null: `REDUCTION_PROMPT`.
    prompt: str | None = Field(default=None, min_length=1)
    #: Most results of one question, where they fit into it.
    fan_in: int = Field(default=20, ge=2, le=1000)
    #: Whether it goes on without the parts of a group whose question failed.
    partial: bool = False


@joiner(kinds=("sections", "vote"), options=ReductionOptions, asks=True)
def reduction(work: Work) -> Joined | JoinQuestions:
    """Have groups of outputs merged into one each by a model, and these again, until one is left.

    Every answer keeps the job's `response_schema`, as the parts do. `confidence` is the share of the parts that went
    into the answer.
    """
    options = work.options if isinstance(work.options, ReductionOptions) else ReductionOptions()
    plan = Plan(
        name="reduction",
        prompt=options.prompt or REDUCTION_PROMPT,
        reduce_prompt=options.prompt or REDUCTION_PROMPT,
        fan_in=options.fan_in,
        most=options.fan_in,
        partial=options.partial,
        schema=work.schema,
        reduce_schema=work.schema,
    )
    tree = grow(work, plan)
    if isinstance(tree, JoinQuestions):
        return tree
    output = f"{tree.output}\n\n{gaps(work.missing, 'part')}" if work.missing and work.schema is None else tree.output
    return Joined(output, details_of(work, tree))


_CITATION = re.compile(r"[\[【]\s?([0-9]{1,6}(?:\s?[,;–-]\s?[0-9]{1,6}){0,99})\s?[\]】]")
_STEP = re.compile(r"([0-9]+)(?:\s?[–-]\s?([0-9]+))?")
#: Parts that one range may name; a longer one is two years, or no citation.
LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class Citations:
    """What a text cites of the parts that it was given. `cited` and `uncited` are indices, from 0."""

    cited: tuple[int, ...]
    uncited: tuple[int, ...]
    #: Numbers as they stand in the text that belong to no part it was given.
    unknown: tuple[int, ...]


def citations(text: str, indices: Collection[int]) -> Citations:
    """Compare the numbers that `text` cites, from 1, with the parts there are."""
    numbers = numbers_in(text)
    known = set(indices)
    cited = {number - 1 for number in numbers} & known
    return Citations(
        tuple(sorted(cited)),
        tuple(sorted(known - cited)),
        tuple(sorted(number for number in numbers if number - 1 not in known)),
    )


def numbers_in(text: str) -> set[int]:
    """The numbers in brackets, those within a range too."""
    found: set[int] = set()
    for citation in _CITATION.finditer(text):
        for step in _STEP.finditer(citation[1]):
            first, last = int(step[1]), int(step[2] or step[1])
            found |= set(range(first, last + 1)) if 0 <= last - first <= LONGEST else {first, last}
    return found
