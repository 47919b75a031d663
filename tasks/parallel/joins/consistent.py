"""`consistent`: the free-text answer that agrees most with the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.outputs import distinct_outputs
from tasks.parallel.joins.registry import JoinOptions, joiner
from tasks.parallel.joins.similarity import mean_similarities, similarities
from tasks.parallel.joins.verdicts import PICK_PROMPT, JudgeQuestions, JudgeReply, read_reply
from tasks.parallel.joins.work import Joined, JoinQuestions, Work


class ConsistentOptions(JoinOptions):
    """The `join_options` of `consistent`."""

    #: By shared words, or by a model that reads all outputs (one question).
    method: Literal["similarity", "model"] = "similarity"
    #: Outputs less similar to the answer than this are its dissent.
    threshold: float = Field(default=0.5, ge=0, le=1)
    #: The system message of the model, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: If the model's reply is unusable: the job fails, or similarity decides.
    refused: Literal["error", "similarity"] = "similarity"


@joiner(kinds=("vote",), options=ConsistentOptions, asks=True)
def consistent(work: Work) -> Joined | JoinQuestions:
    """Take the medoid: the answer with the highest mean similarity to all others; equals go by index.

    With ``model`` a model chooses instead: universal self-consistency (Chen et al., arXiv:2311.17311). `confidence` is
    the mean similarity of the answer to the other votes (`tasks.parallel.joins.similarity`); 1 for a single vote.
    """
    options = work.options_as(ConsistentOptions)
    outputs = distinct_outputs(work)
    similar = similarities([one.text for one in outputs])
    means = [float(value) for value in mean_similarities(similar, [len(one.indices) for one in outputs])]
    ranked = sorted(range(len(outputs)), key=lambda place: (-means[place], place))
    best, choice = ranked[0], {"method": "similarity"}
    if options.method == "model" and len(outputs) > 1:
        judge = JudgeQuestions(task=work.question, window=work.window, prompt=options.prompt or PICK_PROMPT)
        shown = sorted(ranked[: judge.most()])
        if not work.rounds:
            return JoinQuestions((judge.pick([outputs[place].text for place in shown], title="most consistent"),))
        best, choice = _choose_by_model(read_reply(work.rounds[0][0], "pick"), shown, best, options)
    tie = [outputs[place].index for place in ranked if means[place] == means[best]]
    details: dict[str, Any] = {
        "index": outputs[best].index,
        "takes": len(outputs),
        "same": list(outputs[best].indices),
        "similarity": [{"index": one.index, "similarity": means[place]} for place, one in enumerate(outputs)],
        "tie": tie if len(tie) > 1 and choice["method"] == "similarity" else [],
        "dissent": [
            {"index": one.index, "similarity": float(similar[best][place])}
            for place, one in enumerate(outputs)
            if similar[best][place] < options.threshold
        ],
        **work.gaps(),
        "confidence": means[best],
    }
    return Joined(outputs[best].text, details | choice, work.is_cut(*outputs[best].indices))


def _choose_by_model(
    reply: JudgeReply, shown: Sequence[int], best: int, options: ConsistentOptions
) -> tuple[int, dict[str, Any]]:
    """Return the output that the model chose, or else the one that similarity prefers."""
    chosen = reply.value
    if reply.fault is None and 1 <= chosen <= len(shown):
        return shown[chosen - 1], {"method": "model", "shown": len(shown)}
    reason = f"the model's choice can't be used: {reply.error or reply.fault or 'it is no number that it was given'}"
    if options.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "similarity"')
    return best, {"method": "similarity", "shown": len(shown), "reason": reason}
