"""From the fields of a job's record to its `Result`: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tasks.contract.result import FINAL, Decision, Move, Part, Result, Tried, Usage
from tasks.ledger.records import Stage, Wave

__all__ = ["RESULT_FIELDS", "as_mapping", "read_result", "stages_of", "starts_of", "wave_of"]

#: What is read of a job, in this order; the first is None where there is no such job.
RESULT_FIELDS = (
    "state", "kind", "n", "failed", "decision", "output", "error", "details", "accepted_at", "ended_at", "spec",
    "stages",
)  # fmt: skip


def read_result(job_id: str, fields: Sequence[Any], parts: Any, outputs: Any = ()) -> Result:
    """`fields` are those of `RESULT_FIELDS`; `parts` and `outputs` are whole hashes, flat or as mappings."""
    state, kind, n, failed, decision, output, error, details, accepted_at, ended_at, spec, stages = fields
    read = _parts(as_mapping(parts), as_mapping(outputs), int(n or 0), state, stages_of(stages))
    if kind == "single" and read:
        output = read[0].output
    routing = _routing(decision, read)
    return Result(
        id=job_id,
        state=state,
        kind=kind,
        output=output,
        error=error,
        simulated=any(part.simulated for part in read),
        cost_usd=round(sum(part.cost_usd for part in read) + (routing.asked_usd if routing else 0.0), 9),
        usage=sum((part.usage for part in read), Usage()),
        routing=routing,
        details=json.loads(details) if details else {},
        labels=json.loads(spec).get("labels", {}),
        accepted_at=int(accepted_at) / 1000,
        ended_at=int(ended_at) / 1000 if ended_at else None,
        parts_total=int(n or 0),
        parts_failed=int(failed or 0),
        parts=read,
    )


def _routing(decision: str | None, parts: Sequence[Part]) -> Decision | None:
    """The decision, with the model that the feeder chose in the end, where all parts have the same.

    Who was asked by the join, or for the plan, is not who did the job.
    """
    if not decision:
        return None
    routing = Decision.model_validate_json(decision)
    models = {part.model for part in parts if part.model and not part.role}
    return routing.model_copy(update={"model": models.pop()}) if len(models) == 1 else routing


def as_mapping(reply: Any) -> dict[str, str]:
    """A hash as the server tells it, flat or as a mapping."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def starts_of(text: str | None) -> tuple[int, ...]:
    """With which part each wave began that was sent."""
    return tuple([int(start) for start in text.split(",")]) if text else ()


def stages_of(text: str | None) -> tuple[Stage, ...]:
    """The stages of a job that has other parts than its sections or votes."""
    stages = [entry.split(":") for entry in text.split(",")] if text else []
    return tuple([Stage(role, int(first), int(count)) for role, first, count in stages])


def wave_of(reply: Sequence[Any]) -> Wave | None:
    """The wave that a step has sent; None where it has sent none."""
    return Wave(int(reply[1]), int(reply[2]), int(reply[3])) if reply[0] == "ok" else None


def _move(word: str) -> Move:
    model, _, why = word.rpartition(":")
    return Move(model=model, why=why)


def _parts(
    fields: Mapping[str, str], texts: Mapping[str, str], n: int, job_state: str, stages: Sequence[Stage]
) -> tuple[Part, ...]:
    parts: list[Part] = []
    roles = {
        index: stage.role for stage in stages if stage.role for index in range(stage.first, stage.first + stage.count)
    }
    for index in range(n):
        state = fields.get(f"{index}:state", "waiting")
        if job_state in FINAL and state in {"waiting", "queued", "running"}:
            # The job ended without it: nobody will touch it again.
            state = "skipped" if job_state in {"succeeded", "failed"} else "cancelled"
        record = json.loads(fields.get(f"{index}:record", "{}"))
        tried = record.get("tried") or json.loads(fields.get(f"{index}:tried", "[]"))
        parts.append(
            Part(
                index=index,
                state=cast(Any, state),
                title=fields.get(f"{index}:title", ""),
                role=roles.get(index, ""),
                # Before it is sent the job that is its work does not exist.
                job=fields.get(f"{index}:job") if f"{index}:queued_at" in fields else None,
                prompt_version=record.get("prompt"),
                model=fields.get(f"{index}:model") or None,
                simulated=bool(record.get("sim")),
                output=texts.get(str(index)),
                error=record.get("error") or (fields.get(f"{index}:problem") if state == "waiting" else None),
                attempts=int(fields.get(f"{index}:attempts", 0)) + record.get("hedges", 0),
                tried=tuple(Tried.model_validate(item) for item in tried),
                moved=tuple(_move(word) for word in fields.get(f"{index}:moved", "").split()),
                usage=Usage(
                    input_tokens=record.get("in", 0),
                    output_tokens=record.get("out", 0),
                    cached_tokens=record.get("cached", 0),
                    reasoning_tokens=record.get("reasoning", 0),
                ),
                cost_usd=round(record.get("usd", 0.0) + float(fields.get(f"{index}:spent", 0)), 9),
                queue_wait_s=record.get("wait_s"),
                latency_s=record.get("latency_s"),
            )
        )
    return tuple(parts)
