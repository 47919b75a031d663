"""`options`: all distinct outputs, ranked, for jobs that want several ideas rather than one answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import DistinctOutput, as_text, distinct_outputs
from tasks.parallel.joins.registry import JoinOptions, joiner
from tasks.parallel.joins.similarity import mean_similarities, similarities
from tasks.parallel.joins.verdicts import ORDER_PROMPT, JudgeQuestions, JudgeReply, read_reply
from tasks.parallel.joins.work import Joined, JoinQuestions, Work

#: Numbers distinguish ideas in the same words: "by 10%", "by 15%".
_FIGURE = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


class OptionsOptions(JoinOptions):
    """The `join_options` of `options`."""

    #: Outputs at least so similar are one option, if they have the same numbers.
    threshold: float = Field(default=0.8, ge=0, le=1)
    #: Ranked by the number of votes, or by a model (one question).
    by: Literal["count", "judge"] = "count"
    #: Most options in the output; null: all.
    limit: int | None = Field(default=None, ge=1, le=1000)
    #: A numbered list, or a JSON array.
    format: Literal["markdown", "json"] = "markdown"
    #: The system message of the judge, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: If the judge's reply is unusable: the job fails, or the votes rank the options.
    refused: Literal["error", "count"] = "count"


@dataclass(frozen=True, slots=True)
class _Option:
    """An output that stands for all similar ones; `indices` are the parts that gave one of these."""

    text: str
    index: int
    indices: tuple[int, ...]
    #: The mean similarity of the output to all other votes.
    similarity: float


@joiner(kinds=("vote",), options=OptionsOptions, asks=True)
def options(work: Work) -> Joined | JoinQuestions:
    """Unite nearly equal outputs and rank the rest: by votes, then by similarity to all others, then by index.

    `confidence` is the share of the votes for the first option.
    """
    wanted = work.options_as(OptionsOptions)
    outputs = distinct_outputs(work)
    ranked = _unite(outputs, wanted.threshold)
    ranking: dict[str, Any] = {"by": "count"}
    if wanted.by == "judge" and len(ranked) > 1:
        judge = JudgeQuestions(task=work.question, window=work.window, prompt=wanted.prompt or ORDER_PROMPT)
        shown = ranked[: judge.most()]
        if not work.rounds:
            return JoinQuestions((judge.order([option.text for option in shown], title="rank the options"),))
        ranked, ranking = _order_by_judge(read_reply(work.rounds[0][0], "order"), shown, ranked, wanted)
    votes = sum(len(one.indices) for one in outputs)
    first = ranked[0]
    level = [option.index for option in ranked if len(option.indices) == len(first.indices)]
    details = {
        "options": [
            {"index": option.index, "votes": len(option.indices), "parts": list(option.indices)} for option in ranked
        ],
        "total": votes,
        "tie": level if len(level) > 1 and ranking["by"] == "count" else [],
        "dissent": votes - len(first.indices),
        **work.gaps(),
        "confidence": len(first.indices) / votes,
    }
    listed = ranked[: wanted.limit]
    return Joined(_format_options(listed, wanted), details | ranking, work.is_cut(*(option.index for option in listed)))


def _unite(outputs: Sequence[DistinctOutput], threshold: float) -> list[_Option]:
    """Unite similar outputs greedily: the output with most similar votes gathers them, then the next of the rest.

    Each output is at least `threshold` similar to its option. The order of the outputs does not change the options.
    """
    similar = similarities([one.text for one in outputs])
    votes = np.array([len(one.indices) for one in outputs])
    means = mean_similarities(similar, votes.tolist())
    figures = [frozenset(_FIGURE.findall(one.text)) for one in outputs]
    same = np.array([[one == other for other in figures] for one in figures])
    near = (similar >= threshold) & same
    gathers = near @ votes
    free = dict.fromkeys(range(len(outputs)))
    found: list[_Option] = []
    while free:
        best = min(free, key=lambda place: (-gathers[place], -means[place], outputs[place].text))
        own = [place for place in free if near[best][place]]
        indices = sorted(index for place in own for index in outputs[place].indices)
        found.append(_Option(outputs[best].text, outputs[best].index, tuple(indices), float(means[best])))
        gathers -= near[:, own] @ votes[own]
        for place in own:
            del free[place]
    return sorted(found, key=lambda option: (-len(option.indices), -option.similarity, option.index))


def _order_by_judge(
    reply: JudgeReply, shown: Sequence[_Option], ranked: list[_Option], wanted: OptionsOptions
) -> tuple[list[_Option], dict[str, Any]]:
    """Return the judge's order; options that it left out, or did not see, follow in the order of votes."""
    numbers = dict.fromkeys(number for number in reply.value or () if 1 <= number <= len(shown))
    if reply.fault is None and numbers:
        first = [shown[number - 1] for number in numbers]
        rest = [option for option in ranked if option not in first]
        return first + rest, {"by": "judge", "shown": len(shown), "unranked": [option.index for option in rest]}
    reason = f"the judge's order can't be used: {reply.error or reply.fault or 'it holds no number that it was given'}"
    if wanted.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "count"')
    return ranked, {"by": "count", "shown": len(shown), "reason": reason}


def _format_options(ranked: Sequence[_Option], wanted: OptionsOptions) -> str:
    if wanted.format == "json":
        return as_text(
            [
                {"text": option.text, "votes": len(option.indices), "parts": [index + 1 for index in option.indices]}
                for option in ranked
            ]
        )
    return "\n".join(_format_item(f"{number}. ", option.text) for number, option in enumerate(ranked, start=1))


def _format_item(number: str, text: str) -> str:
    """Indent further lines under the first, so that they stay within the list item."""
    indent = " " * len(number)
    first, *rest = text.split("\n")
    return "\n".join([number + first, *(indent + line if line.strip() else "" for line in rest)])
