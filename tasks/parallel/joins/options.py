"""All distinct takes, ranked: where more ideas are wanted rather than one answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import DistinctOutput, as_text, distinct_outputs
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.similarity import means, similarities
from tasks.parallel.joins.verdicts import ORDER_PROMPT, Bench, Reply, read_reply
from tasks.parallel.joins.work import Joined, JoinQuestions, Work, listed

__all__ = ["OptionsOptions", "options"]


#: What makes another idea of the same words: "by 10%", "by 15%".
_FIGURE = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


class OptionsOptions(BaseModel):
    """What `join_options` may say to `options`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Takes at least so alike are one option, if they have the same numbers.
    threshold: float = Field(default=0.8, ge=0, le=1)
    #: Ranked by how many votes said it, or by a model (one question).
    by: Literal["count", "judge"] = "count"
    #: Most options in the answer; null: all.
    limit: int | None = Field(default=None, ge=1, le=1000)
    #: A numbered list, or a JSON array.
    format: Literal["markdown", "json"] = "markdown"
    #: What the judge is told, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: Where the judge's reply can't be used the job fails, or the options are ranked by their votes.
    refused: Literal["error", "count"] = "count"


@dataclass(frozen=True, slots=True)
class _Option:
    """A take that stands for all that are like it; `indices` are the parts that gave one of these."""

    text: str
    index: int
    indices: tuple[int, ...]
    #: How alike its take is to what all other votes said.
    alike: float


@joiner(kinds=("vote",), options=OptionsOptions, asks=True)
def options(work: Work) -> Joined | JoinQuestions:
    """Unite takes that are nearly the same and rank what is left: by votes, then by likeness to all, then by index.

    `confidence` is the share of the votes that the first option has.
    """
    wanted = work.options if isinstance(work.options, OptionsOptions) else OptionsOptions()
    takes = distinct_outputs(work)
    ranked = _united(takes, wanted.threshold)
    told: dict[str, Any] = {"by": "count"}
    if wanted.by == "judge" and len(ranked) > 1:
        bench = Bench(task=work.question, window=work.window, prompt=wanted.prompt or ORDER_PROMPT)
        shown = ranked[: bench.most()]
        if not work.rounds:
            return JoinQuestions((bench.order([option.text for option in shown], title="rank the options"),))
        ranked, told = _ordered(read_reply(work.rounds[0][0], "order"), shown, ranked, wanted)
    votes = sum(len(take.indices) for take in takes)
    first = ranked[0]
    level = [option.index for option in ranked if len(option.indices) == len(first.indices)]
    details = {
        "options": [
            {"index": option.index, "votes": len(option.indices), "parts": list(option.indices)} for option in ranked
        ],
        "total": votes,
        "tie": level if len(level) > 1 and told["by"] == "count" else [],
        "dissent": votes - len(first.indices),
        "missing": listed(work.missing),
        "confidence": len(first.indices) / votes,
    }
    return Joined(_written(ranked[: wanted.limit], wanted), details | told)


def _united(takes: Sequence[DistinctOutput], threshold: float) -> list[_Option]:
    """Whoever has most votes like itself gathers them, then who has most of the rest, and so on.

    Each take is as like its option as the threshold says, and the same takes in another order make the same options.
    """
    similar = similarities([take.text for take in takes])
    votes = np.array([len(take.indices) for take in takes])
    alike = means(similar, votes.tolist())
    figures = [frozenset(_FIGURE.findall(take.text)) for take in takes]
    same = np.array([[one == other for other in figures] for one in figures])
    near = (similar >= threshold) & same
    gathers = near @ votes
    free = dict.fromkeys(range(len(takes)))
    found: list[_Option] = []
    while free:
        best = min(free, key=lambda place: (-gathers[place], -alike[place], takes[place].text))
        own = [place for place in free if near[best][place]]
        indices = sorted(index for place in own for index in takes[place].indices)
        found.append(_Option(takes[best].text, takes[best].index, tuple(indices), float(alike[best])))
        gathers -= near[:, own] @ votes[own]
        for place in own:
            del free[place]
    return sorted(found, key=lambda option: (-len(option.indices), -option.alike, option.index))


def _ordered(
    reply: Reply, shown: Sequence[_Option], ranked: list[_Option], wanted: OptionsOptions
) -> tuple[list[_Option], dict[str, Any]]:
    """The judge's order; what it left out, or was not shown, follows as it was."""
    numbers = dict.fromkeys(number for number in reply.value or () if 1 <= number <= len(shown))
    if reply.fault is None and numbers:
        first = [shown[number - 1] for number in numbers]
        rest = [option for option in ranked if option not in first]
        return first + rest, {"by": "judge", "shown": len(shown), "unranked": [option.index for option in rest]}
    reason = f"the judge's order can't be used: {reply.error or reply.fault or 'it holds no number that it was given'}"
    if wanted.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "count"')
    return ranked, {"by": "count", "shown": len(shown), "reason": reason}


def _written(ranked: Sequence[_Option], wanted: OptionsOptions) -> str:
    if wanted.format == "json":
        told = [
            {"text": option.text, "votes": len(option.indices), "parts": [index + 1 for index in option.indices]}
            for option in ranked
        ]
        return as_text(told)
    return "\n".join(_item(f"{number}. ", option.text) for number, option in enumerate(ranked, start=1))


def _item(number: str, text: str) -> str:
    """Further lines stand under the first, so that they stay within the item."""
    indent = " " * len(number)
    first, *rest = text.split("\n")
    return "\n".join([number + first, *(indent + line if line.strip() else "" for line in rest)])
