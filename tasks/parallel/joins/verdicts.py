"""The questions to a judge about the outputs of a vote, and the verdicts in its replies. Pure.

Each pair is asked in both orders, since judges favour a position (Zheng et al., arXiv:2306.05685, §3.3): a verdict that
changes with the order is a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tasks.contract.answer import NotJSON, closed_object, parse_answer
from tasks.contract.schema import find_problem
from tasks.parallel.joins.outputs import is_refusal
from tasks.parallel.joins.question_material import (
    DATA,
    PER_BLOCK,
    count_tokens,
    mark_blocks,
    room_for_material,
    truncate,
)
from tasks.parallel.joins.work import JoinAnswer, JoinQuestion

#: Why a reply holds no verdict: the call failed, the judge declined, or it wrote something else.
Fault: TypeAlias = Literal["failed", "refused", "unreadable"]

#: Share of the room that the task may take; the rest is for the outputs.
TASK = 1 / 4
#: Tokens of an output in a list: fewer are too little to judge it by.
LEAST_TOKENS = 64

_REASON = "Reply with JSON: a reason of one sentence, and"
PAIR_PROMPT = (
    "You compare two answers to the same task. The better one is more correct, more complete and more useful for what "
    f"the task asks; neither its length nor its place counts. {DATA} {_REASON} the winner: A, B, or tie."
)
SCORE_PROMPT = (
    "You grade an answer to a task from 0, useless or wrong, to 10, nothing to improve, by whether it is correct, "
    f"complete and useful for what the task asks; its length does not count. {DATA} {_REASON} the score."
)
PICK_PROMPT = (
    "You read several answers to the same task. Choose the one that agrees most with the others in what it says, "
    f"in whatever words: the most consistent one. {DATA} {_REASON} its number."
)
ORDER_PROMPT = (
    "You read several answers to the same task, and rank them from the most useful to the least useful. "
    f"{DATA} {_REASON} the order: the numbers of all of them, the best first."
)


_TEXT = {"type": "string"}
_PAIR = closed_object(reason=_TEXT, winner={"type": "string", "enum": ["A", "B", "tie"]})
_SCORE = closed_object(reason=_TEXT, score={"type": "integer", "enum": list(range(11))})
_PICK = closed_object(reason=_TEXT, number={"type": "integer"})
_ORDER = closed_object(reason=_TEXT, order={"type": "array", "items": {"type": "integer"}})


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """The verdict of a judge, or the `fault` that makes it an abstention, with the `error` of a failed call."""

    value: Any = None
    fault: Fault | None = None
    error: str = ""


class JudgeQuestions:
    """Builds questions about outputs within the window of the judge; it shows the beginning of long outputs."""

    def __init__(self, *, task: str, window: int, prompt: str) -> None:
        room = room_for_material(window, prompt)
        self._prompt = prompt
        self._task = truncate(task, int(room * TASK) - PER_BLOCK) if task.strip() else ""
        self._room = room - (count_tokens(self._task) + PER_BLOCK if self._task else 0)

    def fits(self, output: str, together: int) -> bool:
        """Whether a question with so many outputs shows the whole of this one."""
        return count_tokens(output) <= self._share(together)

    def most(self) -> int:
        """Return how many outputs one question can show with at least `LEAST_TOKENS` each."""
        return max(self._room // (LEAST_TOKENS + PER_BLOCK), 2)

    def pair(self, one: str, other: str, *, title: str) -> JoinQuestion:
        """Ask which of two outputs is better; `one` is A."""
        shown = self._shown([one, other])
        return self._question([("answer-A", shown[0]), ("answer-B", shown[1])], title, _PAIR)

    def score(self, output: str, *, title: str) -> JoinQuestion:
        """Ask for a grade of one output."""
        return self._question([("answer", self._shown([output])[0])], title, _SCORE)

    def pick(self, outputs: Sequence[str], *, title: str) -> JoinQuestion:
        """Ask which output agrees most with the others; numbers count from 1."""
        return self._question(self._listed(outputs), title, _PICK)

    def order(self, outputs: Sequence[str], *, title: str) -> JoinQuestion:
        """Ask for a ranking of the outputs; numbers count from 1."""
        return self._question(self._listed(outputs), title, _ORDER)

    def _listed(self, outputs: Sequence[str]) -> list[tuple[str, str]]:
        return [(f"answer-{number}", text) for number, text in enumerate(self._shown(outputs), start=1)]

    def _shown(self, outputs: Sequence[str]) -> list[str]:
        return [truncate(output, self._share(len(outputs))) for output in outputs]

    def _share(self, together: int) -> int:
        """Return the tokens for each output: the same for all, since more of one would favour it."""
        return max(self._room // together - PER_BLOCK, 1)

    def _question(self, blocks: Sequence[tuple[str, str]], title: str, schema: Mapping[str, Any]) -> JoinQuestion:
        task = [("task", self._task)] if self._task else []
        return JoinQuestion(mark_blocks([*task, *blocks]), self._prompt, title, schema)


def read_reply(answer: JoinAnswer, kind: Literal["pair", "score", "pick", "order"]) -> JudgeReply:
    """Read the verdict of a reply, in the form that the question asked for."""
    if answer.output is None:
        return JudgeReply(fault="failed", error=answer.error)
    schema = {"pair": _PAIR, "score": _SCORE, "pick": _PICK, "order": _ORDER}[kind]
    name = str(schema["required"][1])
    try:
        reply = parse_answer(answer.output)
    except NotJSON:
        return JudgeReply(fault="refused" if is_refusal(answer.output) else "unreadable")
    return JudgeReply(fault="unreadable") if find_problem(schema, reply) is not None else JudgeReply(reply[name])
