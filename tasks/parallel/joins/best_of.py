"""The best take in the eyes of a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.bouts import Outcome, everyone, knock_out
from tasks.parallel.joins.declare import joiner
from tasks.parallel.joins.takes import Take, takes_of
from tasks.parallel.joins.values import Ask, Joined, Work, listed
from tasks.parallel.joins.verdicts import PAIR_PROMPT, SCORE_PROMPT, Bench, Reply, read_reply

__all__ = ["BestOfOptions", "best_of"]

#: Takes of which every pair is compared (380 questions); more go through a tournament.
MOST_PAIRED = 20


class BestOfOptions(BaseModel):
    """What `join_options` may say to `best_of`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["tournament", "pairs", "scores"] = "tournament"
    #: What the judge is told, a text or ``file:NAME``; it must ask for the same form of reply. null: ours.
    prompt: str | None = Field(default=None, min_length=1)
    #: Where no reply of the judge can be used the job fails, or the first take is its answer.
    refused: Literal["error", "first"] = "error"


@joiner(kinds=("vote",), options=BestOfOptions, asks=True)
def best_of(work: Work) -> Joined | Ask:
    """Have a judge choose among the distinct takes.

    `confidence` is the share of its pairs that the winner won, ties half and pairs without a verdict nothing; for
    scores a tenth of its score; 1 for a take without another; 0 where no verdict could be used.
    """
    options = work.options if isinstance(work.options, BestOfOptions) else BestOfOptions()
    takes = takes_of(work)
    if len(takes) == 1:
        return _joined(work, takes, 0, {"method": options.method, "confidence": 1.0})
    graded = options.method == "scores"
    bench = Bench(
        task=work.question, window=work.window, prompt=options.prompt or (SCORE_PROMPT if graded else PAIR_PROMPT)
    )
    if graded:
        return _by_scores(work, options, takes, bench)
    paired = options.method == "pairs" and len(takes) <= MOST_PAIRED
    outcome = (everyone if paired else knock_out)(takes, work.rounds, bench)
    if isinstance(outcome, Ask):
        return outcome
    method = {"method": "pairs" if paired else "tournament"}
    replies = [reply for bout in outcome.bouts for reply in bout.replies]
    said = method | _asked(replies) | _cut(bench, takes, 2)
    if not any(bout.usable for bout in outcome.bouts):
        return _without_verdict(work, options, takes, replies, said)
    return _joined(work, takes, outcome.winner, said | _compared(takes, outcome))


def _compared(takes: Sequence[Take], outcome: Outcome) -> dict[str, Any]:
    winner = outcome.winner
    own = outcome.of(winner)
    against = [bout.opponent(winner) for bout in own if bout.usable and bout.orders(bout.opponent(winner))]
    return {
        "points": [{"index": take.index, "points": outcome.points(place)} for place, take in enumerate(takes)],
        # The place won, not the take.
        "inconsistent": sum(bout.usable and bout.orders(bout.one) == bout.orders(bout.other) == 1
                            for bout in outcome.bouts),
        "tie": [takes[place].index for place in outcome.level],
        "dissent": sorted(takes[place].index for place in against),
        "confidence": outcome.points(winner) / len(own),
    }  # fmt: skip


def _by_scores(work: Work, options: BestOfOptions, takes: Sequence[Take], bench: Bench) -> Joined | Ask:
    if not work.rounds:
        return Ask(tuple(bench.score(take.text, title=f"judge {take.index + 1}") for take in takes))
    if len(work.rounds[0]) != len(takes):
        raise JoinError(f"{len(work.rounds[0])} answers came to {len(takes)} questions of the join")
    replies = [read_reply(answer, "score") for answer in work.rounds[0]]
    said = {"method": "scores"} | _asked(replies) | _cut(bench, takes, 1)
    known = {place: reply.value for place, reply in enumerate(replies) if reply.fault is None}
    if not known:
        return _without_verdict(work, options, takes, replies, said)
    best = max(known, key=lambda place: (known[place], len(takes[place].indices), -place))
    equal = [takes[place].index for place, score in known.items() if score == known[best]]
    told = {
        "points": [
            {"index": take.index, "points": None if replies[place].fault else replies[place].value}
            for place, take in enumerate(takes)
        ],
        "tie": equal if len(equal) > 1 else [],
        "confidence": known[best] / 10,
    }
    return _joined(work, takes, best, said | told)


def _without_verdict(
    work: Work, options: BestOfOptions, takes: Sequence[Take], replies: Sequence[Reply], said: Mapping[str, Any]
) -> Joined:
    faults = Counter(str(reply.fault) for reply in replies if reply.fault is not None)
    counted = ", ".join(f"{number} {fault}" for fault, number in sorted(faults.items()))
    reason = f"the judge gave no verdict on {len(takes)} takes: of {len(replies)} replies {counted}"
    reason += next((f" ({reply.error})" for reply in replies if reply.error), "")
    if options.refused == "error":
        raise JoinError(f'{reason}; ask another join_model, or set the join\'s option refused to "first"')
    return _joined(work, takes, 0, {**said, "reason": reason, "confidence": 0.0})


def _asked(replies: Sequence[Reply]) -> dict[str, Any]:
    faults = Counter(reply.fault for reply in replies if reply.fault is not None)
    return {"questions": len(replies), "abstained": dict(faults)}


def _cut(bench: Bench, takes: Sequence[Take], together: int) -> dict[str, Any]:
    return {"cut": [take.index for take in takes if not bench.fits(take.text, together)]}


def _joined(work: Work, takes: Sequence[Take], best: int, said: Mapping[str, Any]) -> Joined:
    details = {
        "index": takes[best].index,
        "takes": len(takes),
        "same": list(takes[best].indices),
        "questions": 0,
        "abstained": {},
        "cut": [],
        "points": [],
        "inconsistent": 0,
        "tie": [],
        "dissent": [],
        "missing": listed(work.missing),
    }
    return Joined(takes[best].text, details | dict(said))
