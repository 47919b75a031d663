"""One answer of many by the same question again and again: two answers of one kind become one of that kind."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.gaps import gaps
from tasks.parallel.joins.material import DATA
from tasks.parallel.joins.synthesis import details_of
from tasks.parallel.joins.tree import Plan, grow
from tasks.parallel.joins.values import Ask, Joined, Work

__all__ = ["ReductionOptions", "reduction"]

#: What every question is asked with.
PROMPT = (
    "You merge several results of the same kind into one result of that kind. Keep everything once, drop repetitions, "
    f"and where they contradict one another keep both, and say so. {DATA} "
    "Reply with the merged result alone, in the form that the results have."
)


class ReductionOptions(BaseModel):
    """What `join_options` may say to `reduction`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What the model is told, in every round: a text, or ``file:NAME``; null: `PROMPT`.
    prompt: str | None = Field(default=None, min_length=1)
    #: Most results of one question, where they fit into it.
    fan_in: int = Field(default=20, ge=2, le=1000)
    #: Whether it goes on without the parts of a group whose question failed.
    partial: bool = False


@joiner(kinds=("sections", "vote"), options=ReductionOptions, asks=True)
def reduction(work: Work) -> Joined | Ask:
    """Have groups of outputs merged into one each by a model, and these again, until one is left.

    Every answer keeps the job's `response_schema`, as the parts do. `confidence` is the share of the parts that went
    into the answer.
    """
    options = work.options if isinstance(work.options, ReductionOptions) else ReductionOptions()
    plan = Plan(
        name="reduction",
        prompt=options.prompt or PROMPT,
        reduce_prompt=options.prompt or PROMPT,
        fan_in=options.fan_in,
        most=options.fan_in,
        partial=options.partial,
        schema=work.schema,
        reduce_schema=work.schema,
    )
    tree = grow(work, plan)
    if isinstance(tree, Ask):
        return tree
    output = f"{tree.output}\n\n{gaps(work.missing, 'part')}" if work.missing and work.schema is None else tree.output
    return Joined(output, details_of(work, tree))
