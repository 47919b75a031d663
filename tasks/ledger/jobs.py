"""The job ledger: the truth about every job, in Redis, moved by one Lua script alone (`move.lua`).

A job's keys carry its id as hash tag, so one job lives in one slot. Times are the server's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from tasks.contract.job import JOB_FIELDS, Job, Parent
from tasks.contract.result import FINAL, Decision, Result, Tried
from tasks.ledger.fleet import LEASE
from tasks.ledger.reading import RESULT_FIELDS, as_mapping, read_result, stages_of, starts_of, wave_of
from tasks.ledger.records import (
    Claim,
    ClaimDenied,
    FinishReply,
    JobSummary,
    JoinReply,
    MovablePart,
    PartOutcome,
    PartRecord,
    PartStatus,
    Progress,
    Wave,
)
from tasks.ledger.store import Script, Store, Words
from tasks.parallel.part_spec import PartSpec

if TYPE_CHECKING:
    from tasks.parallel.early_stop import StopRule

__all__ = [
    "MOVE",
    "Claim",
    "ClaimDenied",
    "Jobs",
    "FinishReply",
    "PartRecord",
    "JobSummary",
    "digest",
]

MOVE = Script("move.lua")

#: Fields of a job that may be large. They are kept apart, so that reading a job's state never reads them.
BULK = frozenset(name for name, rule in JOB_FIELDS.items() if rule.bulk)

#: Parts that one step writes: the server does nothing else meanwhile.
MOST_WRITTEN = 1000

#: A part that lost its worker this often is failed: what kills five workers will kill the sixth.
MOST_LOST = 5
#: A part that moved this often stays where it is: models that open and close by turns must not toss it about.
MOST_MOVES = 3
#: A join that was started this often without an end is failed.
MOST_JOINS = 5
#: Seconds that a join has to conclude before another may start it.
JOIN_LEASE = 30.0
#: Seconds that an idempotency key is bound to its job, from its first use.
KEY_SECONDS = 7 * 86_400


class Jobs:
    """Every step of every job. Each method is one round trip and may raise `Unreachable`."""

    def __init__(self, store: Store, listening: Redis) -> None:
        """`listening` is the client of those who wait for announcements: each keeps one of its connections."""
        self._store = store
        self._listening = listening

    # -- a job's way, in order -------------------------------------------------------------------

    def accepting(self, job: Job, *, keep_seconds: int) -> Words:
        """The command that writes a new job; safe to send twice."""
        bulk = job.model_dump_json(include=set(BULK), exclude_none=True)
        spec = job.model_dump_json(exclude=set(BULK), exclude_none=True)
        deadline = "" if job.deadline is None else int(job.deadline * 1000)
        parent = "" if job.parent is None else job.parent.part
        return _step(
            job.id, "accept", spec, bulk, job.kind, job.policy, job.quorum or 0, parent, job.priority, deadline,
            keep_seconds * 1000, fingerprint(job),
        )  # fmt: skip

    async def read(self, job_id: str) -> tuple[Job, str, Decision | None] | None:
        """The job, its state and its routing decision so far; None if there is no such job.

        The whole job, but for its input where that lies in its parts.
        """
        (fields,) = await self._store.run(("HMGET", _key(job_id), "spec", "input", "state", "decision"))
        spec, bulk, state, decision = fields
        if state is None:
            return None
        return _job(spec, bulk), state, Decision.model_validate_json(decision) if decision else None

    async def route(self, job_id: str, decision: Decision, *, placed: str = "", model: str = "") -> str:
        """``routed``, or ``over`` if the job went on without us."""
        (reply,) = await self._store.run(self.routing(job_id, decision, placed=placed, model=model))
        return str(reply[0])

    def routing(self, job_id: str, decision: Decision, *, placed: str = "", model: str = "") -> Words:
        """The command of `route`."""
        return _step(job_id, "route", decision.model_dump_json(exclude_defaults=True), placed, model)

    def planning(
        self,
        job_id: str,
        decision_json: str,
        parts: Sequence[PartSpec],
        *,
        wave: int,
        first: int = 0,
        role: str = "",
        stopping: StopRule | None = None,
        whole: bool = False,
    ) -> list[Words]:
        """The commands that write the parts of a stage, of which the first `wave` are sent.

        `whole`: the parts hold all of the job's input, which is kept once. The reply to the last command counts: ``ok``
        with the wave's number, its first part and their count, or ``planned``, ``over``, ``gone``.
        """
        told = [_told(part) for part in parts]
        chunks = [told[at : at + MOST_WRITTEN] for at in range(0, len(told), MOST_WRITTEN)]
        commands = [
            _step(job_id, "write", first + place * MOST_WRITTEN, *itertools.chain.from_iterable(chunk))
            for place, chunk in enumerate(chunks if len(chunks) > 1 else ())
        ]
        here = chunks[0] if len(chunks) == 1 else ()
        rule = "" if stopping is None else _rule(stopping)
        return [
            *commands,
            _step(
                job_id, "plan", decision_json, role, first, len(parts), wave, rule, int(whole),
                *itertools.chain.from_iterable(here),
            ),
        ]  # fmt: skip

    async def send(self, job_id: str, wave: int, *, size: int) -> Wave | None:
        """Send the wave of this number, up to `size` parts; None if it was sent before, or the job has ended."""
        (reply,) = await self._store.run(_step(job_id, "send", wave, size))
        return wave_of(reply)

    async def statuses(self, job_id: str, first: int, count: int) -> list[PartStatus]:
        """Where `count` parts of a job stand, from index `first` on."""
        return await self.statuses_of([(job_id, index) for index in range(first, first + count)])

    async def statuses_of(self, calls: Sequence[tuple[str, int]]) -> list[PartStatus]:
        """Where each part (job, index) stands."""
        by_job: dict[str, list[int]] = {}
        for job_id, index in calls:
            by_job.setdefault(job_id, []).append(index)
        fields = ("state", "model", "job", "owner")
        replies = await self._store.run(
            *(
                ("HMGET", f"{_key(job_id)}:parts", *(f"{index}:{field}" for index in indices for field in fields))
                for job_id, indices in by_job.items()
            )
        )
        found: dict[tuple[str, int], PartStatus] = {}
        for (job_id, indices), reply in zip(by_job.items(), replies, strict=True):
            for place, index in enumerate(indices):
                state, model, job, owner = reply[4 * place : 4 * place + 4]
                found[job_id, index] = PartStatus(index, state or "", model or "", job or "", owner or "")
        return [found[call] for call in calls]

    async def specs(self, job_id: str, indices: Sequence[int]) -> list[PartSpec]:
        """What these parts are to do."""
        if not indices:
            return []
        titles, texts = await self._store.run(
            ("HMGET", f"{_key(job_id)}:parts", *(f"{index}:title" for index in indices)),
            ("HMGET", f"{_key(job_id)}:inputs", *(name for index in indices for name in (index, f"x{index}"))),
        )
        return [
            PartSpec.from_stored(
                extras, title=title or "", text=None if section is None else json.loads(section)["section"]
            )
            for title, section, extras in zip(titles, texts[::2], texts[1::2], strict=True)
        ]

    async def spent(self, job_id: str) -> float:
        """USD that the parts of a job have cost that have ended, and that those that run have booked."""
        (reply,) = await self._store.run(("HMGET", _key(job_id), "spent", "booked"))
        spent, booked = reply
        return float(spent or 0) + float(booked or 0)

    async def tally(self, job_id: str) -> dict[str, float]:
        """The ballots of a vote so far, by their digest, and what they weigh together."""
        (reply,) = await self._store.run(("HGETALL", f"{_key(job_id)}:ballots"))
        return {ballot: float(weight) for ballot, weight in as_mapping(reply).items()}

    async def progress(self, job_id: str) -> Progress:
        """How far a job with parts has come."""
        (reply,) = await self._store.run(("HMGET", _key(job_id), "n", "left", "sent", "base", "stages", "starts"))
        n, left, sent, base, stages, starts = reply
        return Progress(
            int(n or 0), int(left or 0), int(sent or 0), int(base or 0), stages_of(stages), starts_of(starts)
        )

    async def outcomes(self, job_id: str, first: int, count: int) -> list[PartOutcome]:
        """How these parts ended and what they brought: all that a join reads of them, and no more."""
        if not count:
            return []
        key, indices = _key(job_id), range(first, first + count)
        states, outputs = await self._store.run(
            (
                "HMGET",
                f"{key}:parts",
                *(f"{index}:{field}" for index in indices for field in ("state", "model", "title")),
            ),
            ("HMGET", f"{key}:outputs", *indices),
        )
        without = [index for index, output in zip(indices, outputs, strict=True) if output is None]
        reasons: dict[int, str] = {}
        if without:
            (records,) = await self._store.run(("HMGET", f"{key}:parts", *(f"{index}:record" for index in without)))
            reasons = {
                index: json.loads(record).get("error") or ""
                for index, record in zip(without, records, strict=True)
                if record is not None
            }
        return [
            PartOutcome(index, state or "", model or "", title or "", output, reasons.get(index, ""))
            for index, state, model, title, output in zip(
                indices, states[::3], states[1::3], states[2::3], outputs, strict=True
            )
        ]

    async def models(self, job_id: str, first: int, last: int) -> list[str]:
        """The models of the parts from `first` to `last`, as far as there are parts."""
        names = [f"{index}:model" for index in range(first, last)]
        (reply,) = await self._store.run(("HMGET", f"{_key(job_id)}:parts", *names))
        return [model for model in reply if model is not None]

    async def queue(self, calls: Sequence[tuple[str, int, str]]) -> list[str]:
        """These calls (job, index, model) now stand in the queue of that model: ``ok`` or ``over`` for each job."""
        by_job: dict[str, list[Any]] = {}
        for job_id, index, model in calls:
            by_job.setdefault(job_id, []).extend((index, model))
        if not by_job:
            return []
        replies = await self._store.run(*(_step(job_id, "queue", *pairs) for job_id, pairs in by_job.items()))
        return [str(reply[0]) for reply in replies]

    async def claim(self, job_id: str, index: int, owner: str, *, dead: str = "", at: str = "") -> Claim | ClaimDenied:
        """Take a part to run it. `dead` is an owner whose lease has lapsed: the part may be taken from it.

        `at` is the model in whose queue the message stood: a part that stands elsewhere by now is not for it.
        """
        (reply,) = await self._store.run(_step(job_id, "claim", index, owner, dead, int(LEASE * 1000), at))
        word = reply[0]
        if word == "elsewhere":
            return ClaimDenied("elsewhere", model=reply[1])
        if word == "busy":
            return ClaimDenied("busy", owner=reply[1])
        if word == "done":
            return ClaimDenied("done", state=reply[1])
        if word == "gone":
            return ClaimDenied("gone")
        _, attempt, model, spec, text, decision, title, queued_at, now, accepted_at, tried, first_at, *rest = reply
        extras, n, base = rest
        given = json.loads(text)
        section = given.get("section")
        job = _job(spec, None if section is not None else text)
        return Claim(
            attempt=int(attempt),
            part=PartSpec.from_stored(extras, model=model, title=title, text=section),
            job=job,
            decision=Decision.model_validate_json(decision),
            queue_wait_s=max(0.0, (int(now) - int(queued_at)) / 1000),
            time_left_s=None if job.deadline is None else job.deadline - (int(now) - int(accepted_at)) / 1000,
            tried=tuple(Tried.model_validate(item) for item in json.loads(tried)),
            trying_s=(int(now) - int(first_at)) / 1000,
            first=int(base),
            total=int(n) - int(base),
        )

    def booking(self, job_id: str, index: int, owner: str, *, usd: float, budget: float) -> Words:
        """The command that books USD of the job's `budget` for the next call.

        Its reply is ``ok``, ``stale``, or ``broke`` with the USD that are left.
        """
        return _step(job_id, "book", index, owner, usd, budget)

    def finishing(
        self,
        job_id: str,
        index: int,
        owner: str,
        *,
        output: str | None,
        record: PartRecord,
        ballot: str = "",
        weight: float = 1.0,
        skipped: bool = False,
        never_created: bool = False,
    ) -> Words:
        """The command that writes a part's end: its `output`, or where that is None the record's error.

        The first writer wins. `ballot` is the digest of what a vote says, and `weight` what it counts. `skipped`: there
        is nothing to do for this part, or its failure does not matter. `never_created`: there is no child job.
        """
        return _step(
            job_id,
            "finish",
            index,
            owner,
            "skipped" if skipped else "failed" if output is None else "succeeded",
            (record.error or "") if output is None else output,
            record.to_json(),
            ballot,
            weight,
            record.spent_usd,
            record.model or "",
            int(never_created),
        )

    def retrying(
        self,
        job_id: str,
        index: int,
        owner: str,
        problem: str,
        *,
        tried: Sequence[Tried] = (),
        counts: bool = True,
        spent_usd: float = 0.0,
    ) -> Words:
        """The command that lets go of a part, so that it can be tried again; its reply is ``ok`` if it was ours.

        `counts` is False where no model was asked: waiting for a limit is no attempt.
        """
        asked = json.dumps([item.model_dump(mode="json") for item in tried], separators=(",", ":"))
        return _step(job_id, "retry", index, owner, problem, asked, int(counts), spent_usd)

    async def retry(self, job_id: str, index: int, owner: str, problem: str) -> bool:
        """Let go of a part so that it can be tried again; False if it isn't ours any more."""
        (reply,) = await self._store.run(self.retrying(job_id, index, owner, problem))
        return bool(reply[0] == "ok")

    def handing_back(self, job_id: str, index: int, owner: str) -> Words:
        """The command that lets go of a part whose worker ends: the next to get its message may claim it at once."""
        return _step(job_id, "hand_back", index, owner)

    async def join(self, job_id: str, *, decided: bool = False) -> JoinReply:
        """``go``: join now. ``wait``: parts are missing. ``busy``: another joins. ``done``, ``gone``, ``poison``.

        `decided`: what is in decides it, once all that was sent has ended.
        """
        (reply,) = await self._store.run(_step(job_id, "join", int(JOIN_LEASE * 1000), MOST_JOINS, int(decided)))
        if reply[0] != "wait" or len(reply) == 1:
            return JoinReply(str(reply[0]))
        return JoinReply("wait", *map(int, reply[1:]))

    async def conclude(
        self, job_id: str, state: str, *, output: str = "", error: str = "", details: Mapping[str, Any] | None = None
    ) -> bool:
        """Write the joined output, or why there is none; False if the job had ended before."""
        (reply,) = await self._store.run(
            _step(job_id, "conclude", state, output, error, json.dumps(details or {}, separators=(",", ":")))
        )
        return bool(reply[0] == "ok")

    async def stop(self, job_id: str, state: str, error: str = "") -> str:
        """End a job early: ``ok``, ``final`` (it had ended) or ``gone``."""
        (reply,) = await self._store.run(self.ending(job_id, state, error))
        return str(reply[0])

    def ending(self, job_id: str, state: str, error: str = "") -> Words:
        """The command of `stop`."""
        return _step(job_id, "stop", state, error)

    async def children(self, job_id: str) -> list[str]:
        """The jobs that are the work of this one's parts, those that were never sent included."""
        known, n = await self._store.run(("HGET", _key(job_id), "children"), ("HGET", _key(job_id), "n"))
        if known is None:
            return []
        (reply,) = await self._store.run(
            ("HMGET", f"{_key(job_id)}:parts", *(f"{index}:job" for index in range(int(n or 0))))
        )
        return [child for child in reply if child]

    # -- for the sweeper -------------------------------------------------------------------------

    async def requeue(self, calls: Sequence[tuple[str, int, str]]) -> list[str]:
        """These parts (job, index, dead owner) lost their worker.

        Each is ``ok``, ``poison`` (it kills workers), ``final``, ``stale`` (it lives) or ``gone``.
        """
        if not calls:
            return []
        lease = int(LEASE * 1000)
        replies = await self._store.run(
            *(_step(job_id, "requeue", index, owner, MOST_LOST, lease) for job_id, index, owner in calls)
        )
        return [str(reply[0]) for reply in replies]

    def moving(self, job_id: str, index: int, state: str, model: str, why: str) -> Words:
        """The command that has a part wait for another model, that is `queued` at `model` or `waiting` for it.

        Its reply is ``ok``, ``final``, ``gone``, ``stale`` (it runs, or stands elsewhere) or ``spent`` (it moved often
        enough).
        """
        return _step(job_id, "move", index, state, model, why, MOST_MOVES)

    async def movable(self, calls: Sequence[tuple[str, int]]) -> list[MovablePart | None]:
        """Of each part (job, index) what it takes to find another model for it; None where nothing may move."""
        if not calls:
            return []
        fields = ("state", "model", "tried", "moved", "queued_at")
        commands: list[Words] = [("TIME",)]
        for job_id, index in calls:
            commands += [
                ("HMGET", f"{_key(job_id)}:parts", *(f"{index}:{field}" for field in fields)),
                ("HMGET", _key(job_id), "state", "decision"),
                ("HGET", f"{_key(job_id)}:inputs", f"x{index}"),
            ]
        clock, *replies = await self._store.run(*commands)
        now = int(clock[0]) * 1000 + int(clock[1]) // 1000
        found: list[MovablePart | None] = []
        for (state, model, tried, moved, queued_at), (job_state, decision), extras in zip(
            replies[::3], replies[1::3], replies[2::3], strict=True
        ):
            moves = len((moved or "").split())
            parked = state in {"queued", "waiting"} and job_state not in FINAL and decision and moves < MOST_MOVES
            found.append(
                MovablePart(
                    state=state,
                    model=model or None,
                    decision=Decision.model_validate_json(decision),
                    tried=tuple(Tried.model_validate(item) for item in json.loads(tried or "[]")),
                    moves=moves,
                    waited_s=max(0.0, (now - int(queued_at or now)) / 1000),
                    candidates=PartSpec.from_stored(extras).candidates,
                )
                if parked
                else None
            )
        return found

    async def inputs(self, calls: Sequence[tuple[str, int]]) -> list[tuple[Job, str | None] | None]:
        """The job of each part (job, index), and the section that the part is; None where the job is gone."""
        if not calls:
            return []
        commands: list[Words] = []
        for job_id, index in calls:
            commands += [("HMGET", _key(job_id), "spec", "input"), ("HGET", f"{_key(job_id)}:inputs", index)]
        replies = await self._store.run(*commands)
        found: list[tuple[Job, str | None] | None] = []
        for (spec, bulk), text in zip(replies[::2], replies[1::2], strict=True):
            if spec is None:
                found.append(None)
                continue
            section = json.loads(text)["section"] if text is not None else None
            found.append((_job(spec, None if section is not None else bulk), section))
        return found

    async def summaries(self, job_ids: Sequence[str]) -> list[JobSummary | None]:
        """Where each job stands; None where there is no such job."""
        if not job_ids:
            return []
        fields = ("state", "kind", "n", "left", "priority", "deadline_at", "sent", "starts", "children", "parent")
        replies = await self._store.run(*(("HMGET", _key(job_id), *fields) for job_id in job_ids))
        return [
            None
            if state is None
            else JobSummary(
                state=state,
                kind=kind,
                n=None if n is None else int(n),
                left=int(left or 0),
                priority=priority,
                deadline_at=None if deadline_at is None else int(deadline_at) / 1000,
                sent=int(sent or 0),
                starts=starts_of(starts),
                has_children=children is not None,
                parent=parent,
            )
            for state, kind, n, left, priority, deadline_at, sent, starts, children, parent in replies
        ]

    async def routes(self, job_ids: Sequence[str]) -> list[str]:
        """The route of each job, "" where it has none."""
        if not job_ids:
            return []
        replies = await self._store.run(*(("HGET", _key(job_id), "decision") for job_id in job_ids))
        return ["" if reply is None else Decision.model_validate_json(reply).route for reply in replies]

    async def states(self, job_ids: Sequence[str]) -> list[str | None]:
        if not job_ids:
            return []
        return list(await self._store.run(*(("HGET", _key(job_id), "state") for job_id in job_ids)))

    # -- reading ---------------------------------------------------------------------------------

    async def result(self, job_id: str, *, outputs: bool = True) -> Result | None:
        """All that is known of a job now, or None. Without `outputs` no text is read but the joined one."""
        key = _key(job_id)
        commands: list[Words] = [("HMGET", key, *RESULT_FIELDS), ("HGETALL", f"{key}:parts")]
        if outputs:
            commands.append(("HGETALL", f"{key}:outputs"))
        fields, parts, *texts = await self._store.run(*commands)
        return None if fields[0] is None else read_result(job_id, fields, parts, *texts)

    @asynccontextmanager
    async def announcements(self, job_id: str) -> AsyncIterator[Any]:
        """Subscribe to the words a job's steps are announced with. They may be missed: read the record too."""
        async with self._listening.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(f"{_key(job_id)}:events")
            yield channel

    # -- idempotency -----------------------------------------------------------------------------

    async def reserve_keys(self, jobs: Sequence[Job]) -> list[tuple[str, bool]]:
        """Bind each job's idempotency key to it, unless it is bound: the id it is bound to, and if it is the same job.

        The binding is made before the job is written; after a crash between the two, the next submission
        with the same key writes the job under the id that was bound.
        """
        if not jobs:
            return []
        commands: list[Words] = []
        for job in jobs:
            name = f"pm:idem:{digest(job.idempotency_key or '')}"
            commands += [("SET", name, f"{job.id}:{fingerprint(job)}", "NX", "EX", KEY_SECONDS), ("GET", name)]
        bound = [str(reply).partition(":") for reply in (await self._store.run(*commands))[1::2]]
        return [(job_id, mark == fingerprint(job)) for job, (job_id, _, mark) in zip(jobs, bound, strict=True)]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def fingerprint(job: Job) -> str:
    """The same for two submissions of one request, whatever ids they were given."""
    return digest(job.model_dump_json(exclude={"id"}))


def _key(job_id: str) -> str:
    return f"pm:{{{job_id}}}"


def _told(part: PartSpec) -> tuple[str, ...]:
    section = "" if part.text is None else json.dumps({"section": part.text})
    return (part.model, part.title, section, part.extras_to_json(), part.job, part.error)


def _rule(stopping: StopRule) -> str:
    """The rule as `move.lua` reads it: ballots are known there by their digest alone."""
    rule: dict[str, Any] = {"exact": stopping.exact, "heaviest": stopping.heaviest}
    if stopping.enough:
        rule["enough"] = stopping.enough
    if stopping.flag is not None:
        rule |= {"flag": digest(stopping.flag), "k": stopping.k}
    return json.dumps(rule, separators=(",", ":"))


def _step(job_id: str, step: str, *args: Any) -> Words:
    key = _key(job_id)
    return MOVE.command([key, f"{key}:parts", f"{key}:outputs", f"{key}:inputs", f"{key}:ballots"], step, *args)


def _job(spec: str, bulk: str | None) -> Job:
    """The job as it was accepted. Without its bulk it has no input to read, so it isn't checked again."""
    data = json.loads(spec)
    if not bulk:
        parent = data.get("parent")
        return Job.model_construct(**(data | {"text": None, "parent": parent and Parent.model_construct(**parent)}))
    return Job.model_validate(data | json.loads(bulk))
