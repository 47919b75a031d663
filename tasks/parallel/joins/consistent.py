"""The free-text answer that agrees most with the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import distinct_outputs
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.similarity import means, similarities
from tasks.parallel.joins.verdicts import PICK_PROMPT, Bench, Reply, read_reply
from tasks.parallel.joins.work import Joined, JoinQuestions, Work, listed

__all__ = ["ConsistentOptions", "consistent"]


class ConsistentOptions(BaseModel):
    """What `join_options` may say to `consistent`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: By the words that takes share, or by a model that reads them all (one question).
    method: Literal["similarity", "model"] = "similarity"
    #: Takes less alike to the answer than this are its dissent.
    threshold: float = Field(default=0.5, ge=0, le=1)
    #: What the model is told, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: Where the model's reply can't be used the job fails, or similarity decides.
    refused: Literal["error", "similarity"] = "similarity"


@joiner(kinds=("vote",), options=ConsistentOptions, asks=True)
def consistent(work: Work) -> Joined | JoinQuestions:
    """DistinctOutput the medoid: the answer that is most alike to all others on average; equals go by index.

    With ``model`` a model chooses instead: universal self-consistency (Chen et al., arXiv:2311.17311). `confidence` is
    how alike the answer is to the other votes on average, by `joins.similarity`; 1 for a vote without another.
    """
    options = work.options if isinstance(work.options, ConsistentOptions) else ConsistentOptions()
    takes = distinct_outputs(work)
    similar = similarities([take.text for take in takes])
    alike = [float(value) for value in means(similar, [len(take.indices) for take in takes])]
    ranked = sorted(range(len(takes)), key=lambda place: (-alike[place], place))
    best, told = ranked[0], {"method": "similarity"}
    if options.method == "model" and len(takes) > 1:
        bench = Bench(task=work.question, window=work.window, prompt=options.prompt or PICK_PROMPT)
        shown = sorted(ranked[: bench.most()])
        if not work.rounds:
            return JoinQuestions((bench.pick([takes[place].text for place in shown], title="most consistent"),))
        best, told = _picked(read_reply(work.rounds[0][0], "pick"), shown, best, options)
    tie = [takes[place].index for place in ranked if alike[place] == alike[best]]
    details: dict[str, Any] = {
        "index": takes[best].index,
        "takes": len(takes),
        "same": list(takes[best].indices),
        "similarity": [{"index": take.index, "similarity": alike[place]} for place, take in enumerate(takes)],
        "tie": tie if len(tie) > 1 and told["method"] == "similarity" else [],
        "dissent": [
            {"index": take.index, "similarity": float(similar[best][place])}
            for place, take in enumerate(takes)
            if similar[best][place] < options.threshold
        ],
        "missing": listed(work.missing),
        "confidence": alike[best],
    }
    return Joined(takes[best].text, details | told)


def _picked(reply: Reply, shown: Sequence[int], best: int, options: ConsistentOptions) -> tuple[int, dict[str, Any]]:
    """The take that the model chose, or the one that similarity prefers where it chose none that it was shown."""
    chosen = reply.value
    if reply.fault is None and 1 <= chosen <= len(shown):
        return shown[chosen - 1], {"method": "model", "shown": len(shown)}
    reason = f"the model's choice can't be used: {reply.error or reply.fault or 'it is no number that it was given'}"
    if options.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "similarity"')
    return best, {"method": "similarity", "shown": len(shown), "reason": reason}
