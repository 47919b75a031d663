"""The steps of a job: what `move.lua`, the only script that moves one, is asked to do.

A job's keys carry its id as hash tag, so one job lives in one slot. Times are the server's.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from tasks.contract.job import JOB_FIELDS, Job
from tasks.contract.result import Decision
from tasks.ledger.fleet import LEASE, WAVE
from tasks.ledger.records import BookReply, Claim, FinishReply, JoinReply, Kept, PartRecord, PartStatus, StagePlan
from tasks.ledger.store import Command, Script, Store
from tasks.ledger.stored import (
    digest,
    job_key,
    read_claim,
    read_wave,
    write_extras,
    write_kept,
    write_record,
    write_usage,
)
from tasks.parallel.early_stop import StopRule
from tasks.parallel.part_spec import PartSpec

MOVE = Script("move.lua", "record.lua")

T = TypeVar("T")

#: Fields of a job that may be large. They are kept apart, so that reading a job's state never reads them.
BULK = frozenset(name for name, rule in JOB_FIELDS.items() if rule.bulk)

#: Fields of later versions: a job without them is stored as earlier versions read it, and has the same fingerprint.
NEWER = ("on_truncated", "reasoning", "unread")

#: Parts that one step writes: the server does nothing else meanwhile.
MOST_WRITTEN = 1000

#: A part that lost its worker this often is failed: what kills five workers will kill the sixth.
MOST_LOST = 5
#: A part that moved this often stays where it is: models that open and close in turn must not move it for ever.
MOST_MOVES = 3
#: A join that was started this often without an end is failed.
MOST_JOINS = 5
#: Seconds that a join has to conclude before another may start it.
JOIN_LEASE = 30.0
#: Seconds that an idempotency key is bound to its job, from its first use.
KEY_SECONDS = 7 * 86_400


class Jobs:
    """Each method returns the command of one step, which is safe to repeat: await it, or hand it to `Store.run`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _step(self, job_id: str, step: str, read: Callable[[Any], T], **arguments: Any) -> Command[T]:
        key = job_key(job_id)
        keys = [key, f"{key}:parts", f"{key}:outputs", f"{key}:inputs", f"{key}:ballots"]
        return self._store.step(MOVE, keys, step, read, **arguments)

    # -- accept and route ------------------------------------------------------------------------

    def accept(self, job: Job, *, keep_seconds: int) -> Command[str]:
        """Write a new job: ``accepted``, ``exists`` (it was written before), or ``taken`` (its id is another job's)."""
        return self._step(
            job.id,
            "accept",
            _word,
            spec=job.model_dump_json(exclude={*BULK, *_unset(job)}, exclude_none=True),
            input=job.model_dump_json(include=set(BULK), exclude_none=True),
            kind=job.kind,
            policy=job.policy,
            quorum=job.quorum or 0,
            parent=None if job.parent is None else job.parent.part,
            priority=job.priority,
            deadline_ms=None if job.deadline is None else int(job.deadline * 1000),
            keep_ms=keep_seconds * 1000,
            mark=_fingerprint(job),
        )

    async def reserve_keys(self, jobs: Sequence[Job]) -> list[tuple[str, bool]]:
        """Bind each job's idempotency key to it, unless it is bound: the id it is bound to, and if it is the same job.

        The binding is made before the job is written; after a crash between the two, the next submission
        with the same key writes the job under the id that was bound.
        """
        commands: list[tuple[Any, ...]] = []
        for job in jobs:
            name = f"pm:idem:{digest(job.idempotency_key or '')}"
            commands += [("SET", name, f"{job.id}:{_fingerprint(job)}", "NX", "EX", KEY_SECONDS), ("GET", name)]
        bound = [str(reply).partition(":") for reply in (await self._store.run(*commands))[1::2]]
        return [(job_id, mark == _fingerprint(job)) for job, (job_id, _, mark) in zip(jobs, bound, strict=True)]

    def route(self, job_id: str, decision: Decision, *, placed: str = "", model: str = "") -> Command[str]:
        """Write the decision: ``routed``, or ``over`` if the job has moved on. `placed`, `model`: see `move.lua`."""
        text = decision.model_dump_json(exclude_defaults=True)
        return self._step(job_id, "route", _word, decision=text, placed=placed, model=model)

    # -- plan and send ---------------------------------------------------------------------------

    def plan(
        self, job_id: str, decision_json: str, stage: StagePlan
    ) -> list[Command[tuple[str, tuple[int, range] | None]]]:
        """Write the parts of a stage and send its first wave. "" as decision leaves that of the job.

        The last command's value counts: ``ok`` with the wave, or ``planned`` (it was before), ``over``, ``gone``.
        """
        words = [_words_of(part) for part in stage.parts]
        chunks = [words[at : at + MOST_WRITTEN] for at in range(0, len(words), MOST_WRITTEN)]
        writes = [
            self._step(
                job_id,
                "write",
                _planned,
                first=stage.first + place * MOST_WRITTEN,
                rest=itertools.chain.from_iterable(chunk),
            )
            for place, chunk in enumerate(chunks if len(chunks) > 1 else ())
        ]
        plan = self._step(
            job_id,
            "plan",
            _planned,
            decision=decision_json,
            role=stage.role,
            first=stage.first,
            count=len(stage.parts),
            wave=min(stage.wave, WAVE),
            stopping=None if stage.stopping is None else _rule_json(stage.stopping),
            whole=stage.whole,
            rest=itertools.chain.from_iterable(chunks[0] if len(chunks) == 1 else ()),
        )
        return [*writes, plan]

    def send(self, job_id: str, wave: int, *, size: int) -> Command[tuple[int, range] | None]:
        """Send the wave of this number, up to `size` parts; None if it was sent before, or the job has ended."""
        return self._step(job_id, "send", read_wave, wave=wave, size=size)

    def queue(self, job_id: str, calls: Sequence[tuple[int, str]]) -> Command[str]:
        """These calls (index, model) now stand in the queue of that model: ``ok`` or ``over``."""
        return self._step(job_id, "queue", _word, rest=itertools.chain.from_iterable(calls))

    # -- run a part ------------------------------------------------------------------------------

    def claim(self, job_id: str, index: int, owner: str, *, at: str = "") -> Command[Claim | PartStatus]:
        """Take a part to run it; where that is not possible, the reply is where it stands.

        `at` is the model in whose queue the message stood: a part that stands elsewhere by now is not claimed by it.
        """
        return self._step(job_id, "claim", partial(read_claim, index), index=index, owner=owner, at=at)

    def book(self, job_id: str, index: int, owner: str, *, usd: float, budget: float) -> Command[BookReply]:
        """Book USD of the job's `budget` for the next call of a part; 0 ends its booking."""
        return self._step(
            job_id,
            "book",
            lambda reply: BookReply(reply[0], *map(float, reply[1:])),
            index=index,
            owner=owner,
            usd=usd,
            budget=budget,
        )

    def finish(
        self, job_id: str, index: int, owner: str, *, output: str | None, record: PartRecord
    ) -> Command[FinishReply]:
        """Write a part's end: its `output`, or where that is None the record's error. The first writer wins."""
        return self._step(
            job_id,
            "finish",
            lambda reply: FinishReply(*reply),
            index=index,
            owner=owner,
            verdict="skipped" if record.skipped else "failed" if output is None else "succeeded",
            output=(record.error or "") if output is None else output,
            reasoning=record.reasoning,
            record=write_record(record),
            ballot=record.ballot,
            weight=record.weight,
            usd=record.spent_usd,
            model=record.model,
            never_created=record.never_created,
            counts=not record.unasked,
        )

    # -- run a part again ------------------------------------------------------------------------

    def retry(
        self,
        job_id: str,
        index: int,
        owner: str,
        record: PartRecord,
        *,
        kept: Kept = Kept(),  # noqa: B008 - frozen
        counts: bool = True,
    ) -> Command[bool]:
        """Let go of a part so that it is tried again; False if it belongs to another owner by now.

        The record has the error, the models that were tried, their tokens and the USD that the attempt spent. `kept`
        comes back with the next claim. `counts` is False where no model was asked: waiting for a limit is no attempt.
        """
        tried = json.dumps([item.model_dump(mode="json") for item in record.tried], separators=(",", ":"))
        return self._step(
            job_id,
            "retry",
            _is_ok,
            index=index,
            owner=owner,
            problem=record.error,
            tried=tried,
            used=write_usage(record.usage),
            kept=write_kept(kept),
            counts=counts,
            usd=record.spent_usd,
        )

    def hand_back(self, job_id: str, index: int, owner: str) -> Command[bool]:
        """Let go of a part whose worker ends: the next to get its message may claim it at once."""
        return self._step(job_id, "hand_back", _is_ok, index=index, owner=owner)

    def move(self, job_id: str, index: int, where: str, model: str, reason: str) -> Command[str]:
        """Have a part wait for another model, that is `where` (``queued`` or ``waiting``) at `model`.

        ``ok``, ``final``, ``gone``, ``stale`` (it runs, or stands elsewhere) or ``spent`` (it moved often enough).
        """
        return self._step(job_id, "move", _word, index=index, where=where, model=model, reason=reason, most=MOST_MOVES)

    def requeue(self, job_id: str, index: int, owner: str) -> Command[str]:
        """Queue a part again that its dead `owner` left.

        ``ok``, ``poison`` (it kills workers), ``final``, ``stale`` (it lives) or ``gone``.
        """
        lease = int(LEASE * 1000)
        return self._step(job_id, "requeue", _word, index=index, owner=owner, most=MOST_LOST, lease_ms=lease)

    # -- end a job -------------------------------------------------------------------------------

    def join(self, job_id: str, *, decided: bool = False) -> Command[JoinReply]:
        """Start the join. `decided`: the parts that have ended decide the job, though others were never sent."""
        return self._step(
            job_id,
            "join",
            lambda reply: JoinReply(reply[0], *map(int, reply[1:] if reply[0] == "wait" else ())),
            lease_ms=int(JOIN_LEASE * 1000),
            most=MOST_JOINS,
            decides=decided,
        )

    def conclude(
        self,
        job_id: str,
        state: str,
        *,
        output: str = "",
        error: str = "",
        details: Mapping[str, Any] | None = None,
        truncated: bool = False,
    ) -> Command[bool]:
        """Write the joined output, or why there is none; False if the job had ended before."""
        text = json.dumps(details or {}, separators=(",", ":"))
        return self._step(
            job_id, "conclude", _is_ok, state=state, output=output, problem=error, details=text, truncated=truncated
        )

    def stop(self, job_id: str, state: str, error: str = "") -> Command[str]:
        """End a job early: ``ok``, ``final`` (it had ended) or ``gone``."""
        return self._step(job_id, "stop", _word, state=state, problem=error)


def _word(reply: Sequence[Any]) -> str:
    return str(reply[0])


def _is_ok(reply: Sequence[Any]) -> bool:
    return bool(reply[0] == "ok")


def _planned(reply: Sequence[Any]) -> tuple[str, tuple[int, range] | None]:
    return str(reply[0]), read_wave(reply)


def _fingerprint(job: Job) -> str:
    """The same for two submissions of one request, whatever ids they were given."""
    return digest(job.model_dump_json(exclude={"id", *_unset(job)}))


def _unset(job: Job) -> set[str]:
    return {name for name in NEWER if not getattr(job, name)}


def _words_of(part: PartSpec) -> tuple[str, ...]:
    section = "" if part.text is None else json.dumps({"section": part.text})
    return (part.model, part.title, section, write_extras(part), part.job, part.error)


def _rule_json(stopping: StopRule) -> str:
    """The rule as `move.lua` reads it: there a ballot is its digest."""
    rule: dict[str, Any] = {"exact": stopping.exact, "heaviest": stopping.heaviest}
    if stopping.enough:
        rule["enough"] = stopping.enough
    if stopping.flag is not None:
        rule |= {"flag": digest(stopping.flag), "k": stopping.k}
    return json.dumps(rule, separators=(",", ":"))
