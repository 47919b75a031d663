"""Why a call waits, in words: for the part's record, and for the error of a job that expires."""

from __future__ import annotations

from tasks.config.config import Config
from tasks.contract.result import Decision
from tasks.ledger import Ledger
from tasks.ledger.limiter import LimiterState
from tasks.ledger.records import PartStatus
from tasks.routing.snapshot import ModelLoad

#: Why a model takes no call now: by the limiter's reasons, and by those for which admission passes it over.
REASONS = {
    "breaker": "its breaker is open, after failures",
    "budget": "its budget of the day is used up",
    "left": "its budget of the day has too little left for a call of this size",
    "booked": "its budget of the day is booked by calls in flight",
    "job_booked": "the job's budget is booked by calls in flight",
    "paused": "its provider asked for a pause",
    "capacity": "as many calls as its capacity allows are in flight",
    "key": "as many calls as its key allows are in flight",
    "rpm": "its requests of this minute (rpm) are used up",
    "tpm": "its tokens of this minute (tpm) are used up",
    "room": "it has no more room for an answer that was cut",
    "dead": "no worker serves it",
    "drained": "an operator has taken it out (drained)",
}
#: Parts of a job that are looked at: one of them is named.
MOST_READ = 1000


def describe_denial(model: str, reason: str) -> str:
    return f"model {model!r} has to wait: {REASONS[reason]}"


async def describe_wait(ledger: Ledger, config: Config, job_id: str) -> str:
    """What the first part of a job waits for that has not ended; "" where none waits."""
    read = await ledger.views.read(job_id)
    (summary,) = await ledger.views.summaries([job_id])
    if read is None or summary is None:
        return ""
    _, _, decision = read
    if summary.n is None or decision is None:
        return "no router has taken it yet" if decision is None else "its parts were not sent yet"
    parts = await ledger.views.statuses(job_id, 0, min(summary.sent or summary.n, MOST_READ))
    open_parts = [part for part in parts if part.state in {"waiting", "queued", "running"}]
    if not open_parts:
        return "its parts had ended, and it was not joined yet"
    # One that waits says more than one that runs.
    part = min(open_parts, key=lambda one: ("waiting", "queued", "running").index(one.state))
    name = "" if summary.kind == "single" else f"part {part.index + 1}: "
    return name + await _describe_part(ledger, config, job_id, part, decision)


async def _describe_part(ledger: Ledger, config: Config, job_id: str, part: PartStatus, decision: Decision) -> str:
    if part.job:
        inner = await describe_wait(ledger, config, part.job)
        return f"its child job had not ended{f'; {inner}' if inner else ''}"
    if part.state == "running":
        return f"model {part.model!r} had not answered"
    problem = await ledger.views.problem(job_id, part.index)
    if problem:
        return problem
    able = [candidate.model for candidate in decision.candidates if not candidate.reason]
    named = [part.model] if part.model else able
    names = [name for name in named if name in config.models]
    if not names:
        return "its models are no longer in the configuration"
    keys = sorted({key for name in names if (key := config.models[name].api_key_env) in config.keys and key})
    loads = (await ledger.fleet.snapshot(names)).models
    states = await ledger.limiter.states(names, keys)
    found = []
    for name in names:
        key = config.models[name].api_key_env
        found.append(describe_denial(name, _find_reason(loads[name], states[name], states.get(key or ""))))
    return "; ".join(found)


def _find_reason(load: ModelLoad, state: LimiterState, key: LimiterState | None) -> str:
    if load.closed:
        return load.closed
    if state.breaker != "closed":
        return "breaker"
    for limiter in (state, *([key] if key is not None else ())):
        if limiter.rpm is not None and limiter.requests >= limiter.rpm:
            return "rpm"
        if limiter.tpm is not None and limiter.tokens >= limiter.tpm:
            return "tpm"
    if key is not None and key.most is not None and key.running >= key.most:
        return "key"
    return "paused" if state.paused_s else "capacity"
