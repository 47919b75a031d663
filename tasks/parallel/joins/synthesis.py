"""`synthesis` and `reduction`: one text that a model writes of all outputs, in rounds where they are too long."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import Field

from tasks.parallel.joins.outputs import is_refusal
from tasks.parallel.joins.question_material import DATA
from tasks.parallel.joins.registry import JoinOptions, ResultSchema, joiner
from tasks.parallel.joins.tree import Tree, TreePlan, grow
from tasks.parallel.joins.work import Joined, JoinQuestions, Work, coverage, with_missing_notes

#: The prompt of the last question of a synthesis.
SYNTHESIS_PROMPT = (
    "You write one text out of numbered parts, or out of summaries of them. Unite what they share, keep figures and "
    "names, and say where they contradict one another. After each statement cite the parts that it rests on by their "
    "numbers in brackets, such as [2] or [1][4]: the numbers before the parts, or those that the summaries cite. Cite "
    "no number that isn't there, and add nothing that the parts don't say. "
    f"{DATA} Reply with the text alone."
)
#: The prompt of the questions before the last.
CONDENSE_PROMPT = (
    "You condense numbered parts, or summaries of them, for a reader of your text alone. Keep what "
    "matters to the whole: findings, figures, names, contradictions. After each statement keep the numbers in brackets "
    "of the parts that it rests on, such as [12] or [3][7], exactly as they are: never count anew. "
    f"{DATA} Reply with the text alone."
)
#: The prompt of every question of a reduction.
REDUCTION_PROMPT = (
    "You merge several results of the same kind into one result of that kind. Keep everything once, drop repetitions, "
    f"and where they contradict one another keep both, and say so. {DATA} "
    "Reply with the merged result alone, in the form that the results have."
)


class SynthesisOptions(JoinOptions):
    """The `join_options` of `synthesis`."""

    #: The system message of the last question: a text, or ``file:NAME``; null: `SYNTHESIS_PROMPT`.
    prompt: str | None = Field(default=None, min_length=1)
    #: The system message of earlier questions, where the parts do not fit into one; null: `CONDENSE_PROMPT`.
    reduce_prompt: str | None = Field(default=None, min_length=1)
    #: Most parts of one question, as far as they fit; more are condensed in groups first.
    max_parts: int = Field(default=100, ge=2, le=1000)
    #: Most parts of a group.
    fan_in: int = Field(default=20, ge=2, le=1000)
    #: Whether the join continues without the parts of a group whose question failed.
    partial: bool = False
    #: JSON Schema of the output; the job's `response_schema` is that of each part.
    result_schema: ResultSchema | None = None


class ReductionOptions(JoinOptions):
    """The `join_options` of `reduction`."""

    #: The system message in every round: a text, or ``file:NAME``; null: `REDUCTION_PROMPT`.
    prompt: str | None = Field(default=None, min_length=1)
    #: Most results of one question, as far as they fit.
    fan_in: int = Field(default=20, ge=2, le=1000)
    #: Whether the join continues without the parts of a group whose question failed.
    partial: bool = False


@joiner(kinds=("sections", "vote"), options=SynthesisOptions, asks=True)
def synthesis(work: Work) -> Joined | JoinQuestions:
    """Ask a model for one text of all outputs; if they exceed its window, first for summaries of groups.

    Parts are cited by their numbers from 1, also through summaries; `details` list the cited and the uncited parts, and
    the numbers that belong to no part. `confidence` is the share of the parts that went into the text, and 0 if the
    text looks like a refusal (`tasks.parallel.joins.outputs`).
    """
    options = work.options_as(SynthesisOptions)
    plan = TreePlan(
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
    details = find_citations(tree.output, [piece.index for piece in work.pieces if piece.index not in lost])
    return _make_joined(work, plan, tree, details, cited=bool(details["cited"]))


@joiner(kinds=("sections", "vote"), options=ReductionOptions, asks=True)
def reduction(work: Work) -> Joined | JoinQuestions:
    """Let a model merge groups of outputs into one each, and these again, until one is left.

    Every answer keeps the job's `response_schema`, as the parts do. `confidence` is the share of the parts that went
    into the output.
    """
    options = work.options_as(ReductionOptions)
    plan = TreePlan(
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
    return tree if isinstance(tree, JoinQuestions) else _make_joined(work, plan, tree, {}, cited=False)


def _make_joined(work: Work, plan: TreePlan, tree: Tree, details: Mapping[str, Any], *, cited: bool) -> Joined:
    """Return the output of a tree of questions; an output that is `cited` from its parts is no refusal."""
    held = len(work.pieces) - len(tree.lost)
    refused = not cited and is_refusal(tree.output)
    output = with_missing_notes(tree.output, work.missing, "part") if plan.schema is None else tree.output
    return Joined(
        output,
        {
            **details,
            "sections": held,
            "questions": tree.questions,
            "rounds": tree.rounds,
            "cut": tree.cut,
            "cut_answers": tree.cut_answers,
            "lost": tree.lost,
            **work.gaps(),
            "refused": refused,
            "confidence": 0.0 if refused else coverage(held, len(tree.lost) + len(work.missing)),
        },
        truncated=any(answer.truncated for answers in work.rounds for answer in answers),
    )


_CITATION = re.compile(r"[\[【]\s?([0-9]{1,6}(?:\s?[,;–-]\s?[0-9]{1,6}){0,99})\s?[\]】]")
_STEP = re.compile(r"([0-9]+)(?:\s?[–-]\s?([0-9]+))?")
#: Parts of one cited range at most; a longer range is two years, or no citation.
LONGEST = 1_000


def find_citations(text: str, indices: Collection[int]) -> dict[str, list[int]]:
    """Compare the numbers that `text` cites, from 1, with the indices of its parts.

    Returns the indices of the ``cited`` and the ``uncited`` parts, and the ``unknown`` numbers that belong to no part.
    """
    numbers = cited_numbers(text)
    known = set(indices)
    cited = {number - 1 for number in numbers} & known
    return {
        "cited": sorted(cited),
        "uncited": sorted(known - cited),
        "unknown": sorted(number for number in numbers if number - 1 not in known),
    }


def cited_numbers(text: str) -> set[int]:
    """Return the cited numbers, those within a range too: ``[3]``, ``[1][4]``, ``[2, 5]``, ``[1-3]``."""
    found: set[int] = set()
    for citation in _CITATION.finditer(text):
        for step in _STEP.finditer(citation[1]):
            first, last = int(step[1]), int(step[2] or step[1])
            found |= set(range(first, last + 1)) if 0 <= last - first <= LONGEST else {first, last}
    return found
