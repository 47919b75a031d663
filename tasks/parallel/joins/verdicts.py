"""What a judge is asked about takes, and what its replies say. Pure.

A pair is asked in both orders, since judges favour a place (Zheng et al., arXiv:2306.05685, §3.3): a verdict that turns
with the order is a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tasks.contract.schema import problem_of
from tasks.parallel.joins.material import DATA, PER_BLOCK, cut, marked, room_of, size
from tasks.parallel.joins.outputs import parsed
from tasks.parallel.joins.refusal import is_refusal
from tasks.parallel.joins.work import JoinAnswer, JoinQuestion

__all__ = ["ORDER_PROMPT", "PAIR_PROMPT", "PICK_PROMPT", "SCORE_PROMPT", "Bench", "Reply", "read_reply"]

#: Why a reply says nothing: the call failed, the judge declined, or wrote something else.
Fault: TypeAlias = Literal["failed", "refused", "unreadable"]

#: Share of the room that the task may take; the rest is for the takes.
TASK = 1 / 4
#: Tokens of a take in a list of them: with less than that it says too little to be judged.
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


def _schema(name: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    """Closed, so that providers can promise to keep it; the reason comes first, so that it is thought before."""
    return {
        "type": "object",
        "properties": {"reason": {"type": "string"}, name: dict(kind)},
        "required": ["reason", name],
        "additionalProperties": False,
    }


_PAIR = _schema("winner", {"type": "string", "enum": ["A", "B", "tie"]})
_SCORE = _schema("score", {"type": "integer", "enum": list(range(11))})
_PICK = _schema("number", {"type": "integer"})
_ORDER = _schema("order", {"type": "array", "items": {"type": "integer"}})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a judge said: `value`, or the `fault` for which it counts as an abstention, with a failed call's `error`."""

    value: Any = None
    fault: Fault | None = None
    error: str = ""


class Bench:
    """Questions about takes, within the window of the judge; of a take that is too long the beginning is shown."""

    def __init__(self, *, task: str, window: int, prompt: str) -> None:
        room = room_of(window, prompt)
        self._prompt = prompt
        self._task = cut(task, int(room * TASK) - PER_BLOCK) if task.strip() else ""
        self._room = room - (size(self._task) + PER_BLOCK if self._task else 0)

    def fits(self, take: str, together: int) -> bool:
        """Whether all of a take is shown in a question with so many of them."""
        return size(take) <= self._share(together)

    def most(self) -> int:
        """How many takes one question can show so that each says something."""
        return max(self._room // (LEAST_TOKENS + PER_BLOCK), 2)

    def pair(self, one: str, other: str, *, title: str) -> JoinQuestion:
        """Which of two is better; `one` is A."""
        shown = self._shown([one, other])
        return self._question([("answer-A", shown[0]), ("answer-B", shown[1])], title, _PAIR)

    def score(self, take: str, *, title: str) -> JoinQuestion:
        """How good one is by itself."""
        return self._question([("answer", self._shown([take])[0])], title, _SCORE)

    def pick(self, takes: Sequence[str], *, title: str) -> JoinQuestion:
        """Which agrees most with the others; numbers count from 1."""
        return self._question(self._listed(takes), title, _PICK)

    def order(self, takes: Sequence[str], *, title: str) -> JoinQuestion:
        """How they are ranked; numbers count from 1."""
        return self._question(self._listed(takes), title, _ORDER)

    def _listed(self, takes: Sequence[str]) -> list[tuple[str, str]]:
        return [(f"answer-{number}", text) for number, text in enumerate(self._shown(takes), start=1)]

    def _shown(self, takes: Sequence[str]) -> list[str]:
        return [cut(take, self._share(len(takes))) for take in takes]

    def _share(self, together: int) -> int:
        """Tokens of each: the same for all, more of one take would be an advantage."""
        return max(self._room // together - PER_BLOCK, 1)

    def _question(self, blocks: Sequence[tuple[str, str]], title: str, schema: Mapping[str, Any]) -> JoinQuestion:
        task = [("task", self._task)] if self._task else []
        return JoinQuestion(marked([*task, *blocks]), self._prompt, title, schema)


def read_reply(answer: JoinAnswer, kind: Literal["pair", "score", "pick", "order"]) -> Reply:
    """The verdict of a reply that has the form that was asked for."""
    if answer.output is None:
        return Reply(fault="failed", error=answer.error)
    schema = {"pair": _PAIR, "score": _SCORE, "pick": _PICK, "order": _ORDER}[kind]
    name = str(schema["required"][1])
    try:
        said = parsed(answer.output)
    except ValueError:
        return Reply(fault="refused" if is_refusal(answer.output) else "unreadable")
    return Reply(fault="unreadable") if problem_of(schema, said) is not None else Reply(said[name])
