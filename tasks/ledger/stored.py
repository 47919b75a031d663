"""The stored forms: from values to the fields of a job's record, and back, with the replies of its steps. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tasks.contract.job import Job
from tasks.contract.job_fields import Parent
from tasks.contract.result import FINAL, Decision, Move, Part, Result, Tried, Usage
from tasks.ledger.records import Claim, Kept, PartRecord, PartStatus, Stage
from tasks.parallel.part_spec import PartSpec

#: What is read of a job, in this order; the first is None where there is no such job.
RESULT_FIELDS = (
    "state", "kind", "n", "failed", "decision", "output", "error", "details", "accepted_at", "ended_at", "spec",
    "stages", "truncated",
)  # fmt: skip
#: Fields of a part that the ledger keeps as one JSON object; the others have a place of their own there.
_EXTRAS = ("prompt", "schema", "seed", "task", "candidates", "bare", "child")
#: Fields of a job that are empty mappings by default: such a value needs no check. An empty `each` means something.
_EMPTY = frozenset(
    name for name, field in Job.model_fields.items() if field.get_default(call_default_factory=True) == {}
)
#: What is read of a part's status, in this order.
STATUS_FIELDS = ("state", "model", "job", "owner")


def job_key(job_id: str) -> str:
    """The key of a job's record; those of its parts, outputs, inputs and ballots begin with it."""
    return f"pm:{{{job_id}}}"


def digest(text: str) -> str:
    """Stands for a text that is long, or is not to be shown."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read_job(spec: str, bulk: str | None) -> Job:
    """The job as it was accepted. Without its bulk it has no input to read, so it isn't checked again."""
    data = json.loads(spec)
    if not bulk:
        parent = data.get("parent")
        return Job.model_construct(**(data | {"text": None, "parent": parent and Parent.model_construct(**parent)}))
    read = {name: value for name, value in data.items() if value != {} or name not in _EMPTY} | json.loads(bulk)
    return Job.model_validate(read, extra="ignore")


def read_section(stored: str | None) -> str | None:
    """The text of a section; None where the job's input serves."""
    return None if stored is None else json.loads(stored)["section"]


def write_record(record: PartRecord) -> str:
    """The stored form of a part's record, as JSON."""
    return json.dumps(
        {
            **_usage_fields(record.usage),
            "usd": record.cost_usd,
            "latency_s": record.latency_s,
            "wait_s": record.queue_wait_s,
            "sim": record.simulated,
            "error": record.error,
            **({"finish": record.finish_reason} if record.finish_reason else {}),
            **({"hedges": record.hedges} if record.hedges else {}),
            **({"prompt": record.prompt} if record.prompt else {}),
            **({"tried": [item.model_dump(mode="json") for item in record.tried]} if record.tried else {}),
        },
        separators=(",", ":"),
    )


#: The names of the fields of a usage in a stored record.
_USAGE = {
    "input_tokens": "in",
    "output_tokens": "out",
    "cached_tokens": "cached",
    "reasoning_tokens": "reasoning",
    "estimated": "estimated",
}


def _usage_fields(usage: Usage) -> dict[str, Any]:
    return {word: value for name, word in _USAGE.items() if (value := getattr(usage, name)) or word in {"in", "out"}}


def write_usage(usage: Usage) -> str:
    """The stored form of what the attempts of a part have used, as JSON."""
    return json.dumps(_usage_fields(usage), separators=(",", ":"))


def read_usage(stored: Mapping[str, Any]) -> Usage:
    """The usage in a stored record, or in what `write_usage` has written."""
    return Usage(**{name: stored[word] for name, word in _USAGE.items() if word in stored})


def write_kept(kept: Kept) -> str:
    """The stored form of what cut answers have left, as JSON; "" for nothing."""
    return "" if kept == Kept() else json.dumps(dataclasses.asdict(kept), separators=(",", ":"))


def _read_kept(stored: str) -> Kept:
    read = json.loads(stored) if stored else {}
    return Kept(**{field.name: read[field.name] for field in dataclasses.fields(Kept) if field.name in read})


def write_extras(part: PartSpec) -> str:
    """The fields of a part without a place of their own in the ledger, as JSON; "" where it has none of them."""
    # By identity: the seed 0 is kept.
    extras = {
        name: value
        for name in _EXTRAS
        if (value := getattr(part, name)) is not None and value is not False and value != ()
    }
    if part.child is not None:
        extras["child"] = {name: value for name, value in part.child.items() if name != "text"}
    return json.dumps(extras, separators=(",", ":")) if extras else ""


def read_part(extras: str | None, *, model: str = "", title: str = "", text: str | None = None) -> PartSpec:
    """The inverse of `write_extras`, with the fields that are kept apart."""
    if not extras:
        return PartSpec(model, title, text)
    read = json.loads(extras)
    return PartSpec(model, title, text, **(read | {"candidates": tuple(read.get("candidates", ()))}))


def read_claim(index: int, reply: Sequence[Any]) -> Claim | PartStatus:
    """The reply of the step `claim` for the part of this index: where it stands, where it can't be claimed."""
    if reply[0] == "denied":
        state, model, job, owner = reply[1:]
        return PartStatus(index, state or "", model or "", job or "", owner or "")
    (
        _, attempt, model, spec, text, decision, title, queued_at, now, accepted_at, tried, first_at, extras, n, base,
        used, kept,
    ) = reply  # fmt: skip
    section = json.loads(text).get("section")
    job = read_job(spec, None if section is not None else text)
    return Claim(
        attempt=int(attempt),
        part=read_part(extras, model=model, title=title, text=section),
        job=job,
        decision=read_decision(decision),
        queue_wait_s=max(0.0, (int(now) - int(queued_at)) / 1000),
        time_left_s=None if job.deadline is None else job.deadline - (int(now) - int(accepted_at)) / 1000,
        tried=read_tried(tried),
        used=read_usage(json.loads(used)) if used else Usage(),
        kept=_read_kept(kept),
        trying_s=(int(now) - int(first_at)) / 1000,
        first=int(base),
        total=int(n) - int(base),
    )


def read_statuses(indices: Sequence[int], reply: Sequence[Any]) -> list[PartStatus]:
    """The parts of `indices`, each by its `STATUS_FIELDS`."""
    fields = [iter(reply)] * len(STATUS_FIELDS)
    return [
        PartStatus(index, state or "", model or "", job or "", owner or "")
        for index, (state, model, job, owner) in zip(indices, zip(*fields, strict=True), strict=True)
    ]


def read_result(job_id: str, fields: Sequence[Any], parts: Any, outputs: Any = ()) -> Result:
    """`fields` are those of `RESULT_FIELDS`; `parts` and `outputs` are whole hashes, flat or as mappings."""
    state, kind, n, failed, decision, output, error, details, accepted_at, ended_at, spec, stages, truncated = fields
    job = json.loads(spec)
    shown = json.loads(details) if details else {}
    if job.get("unread"):
        # Joins of verdicts and scores have a detail of that name.
        shown["unread_files" if "unread" in shown else "unread"] = job["unread"]
    read = _parts(as_mapping(parts), as_mapping(outputs), int(n or 0), state, read_stages(stages))
    cut = truncated == "1"
    finish = None if output is None else "length" if cut else "stop"
    if kind == "single" and read:
        output, cut, finish = read[0].output, read[0].truncated, read[0].finish_reason
    routing = _routing(decision, read)
    return Result(
        id=job_id,
        state=state,
        kind=kind,
        output=output,
        finish_reason=finish,
        truncated=cut,
        error=error,
        simulated=any(part.simulated for part in read),
        cost_usd=round(sum(part.cost_usd for part in read) + (routing.asked_usd if routing else 0.0), 9),
        usage=sum((part.usage for part in read), Usage()),
        routing=routing,
        details=shown,
        labels=job.get("labels", {}),
        accepted_at=int(accepted_at) / 1000,
        ended_at=int(ended_at) / 1000 if ended_at else None,
        parts_total=int(n or 0),
        parts_failed=int(failed or 0),
        parts=read,
    )


def _routing(decision: str | None, parts: Sequence[Part]) -> Decision | None:
    """The decision, with the model that admission chose in the end, where all parts have the same.

    The models that answered a join's questions or made the plan do not count.
    """
    if not decision:
        return None
    routing = read_decision(decision)
    models = {part.model for part in parts if part.model and not part.role}
    return routing.model_copy(update={"model": models.pop()}) if len(models) == 1 else routing


def read_decision(stored: str) -> Decision:
    """The routing decision of a job. Another version may have written it, with fields that are not known here."""
    return Decision.model_validate_json(stored, extra="ignore")


def read_tried(stored: str | None) -> tuple[Tried, ...]:
    """The models that a part has asked."""
    return tuple([Tried.model_validate(item, extra="ignore") for item in json.loads(stored or "[]")])


def as_mapping(reply: Any) -> dict[str, str]:
    """A hash of the server's reply, which is flat or a mapping."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def read_starts(text: str | None) -> tuple[int, ...]:
    """The first part of each wave that was sent."""
    return tuple([int(start) for start in text.split(",")]) if text else ()


def read_stages(text: str | None) -> tuple[Stage, ...]:
    """The stages of a job; none where sections or votes are its only parts."""
    stages = [entry.split(":") for entry in text.split(",")] if text else []
    return tuple([Stage(role, int(first), int(count)) for role, first, count in stages])


def read_wave(reply: Sequence[Any]) -> tuple[int, range] | None:
    """The number of the wave that a step has sent and the indices of its parts, or None."""
    if reply[0] != "ok" or len(reply) == 1:
        return None
    number, first, count = map(int, reply[1:])
    return number, range(first, first + count)


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
            # The job ended without this part, which stays as it is.
            state = "skipped" if job_state in {"succeeded", "failed"} else "cancelled"
        record = json.loads(fields.get(f"{index}:record", "{}"))
        tried = json.dumps(record["tried"]) if record.get("tried") else fields.get(f"{index}:tried")
        finish = record.get("finish") if state == "succeeded" else None
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
                finish_reason=finish,
                truncated=finish == "length",
                reasoning=texts.get(f"r{index}"),
                error=record.get("error") or (fields.get(f"{index}:problem") if state == "waiting" else None),
                attempts=int(fields.get(f"{index}:attempts", 0)) + record.get("hedges", 0),
                tried=read_tried(tried),
                moved=tuple(_move(word) for word in fields.get(f"{index}:moved", "").split()),
                usage=read_usage(record or json.loads(fields.get(f"{index}:used", "{}"))),
                cost_usd=round(record.get("usd", 0.0) + float(fields.get(f"{index}:spent", 0)), 9),
                queue_wait_s=record.get("wait_s"),
                latency_s=record.get("latency_s"),
            )
        )
    return tuple(parts)
