"""What is read of jobs and of their parts. Reading changes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from tasks.contract.job import Job
from tasks.contract.result import Decision, Part, Result
from tasks.ledger.records import JobSummary, PartStatus, Progress
from tasks.ledger.store import Store, Words
from tasks.ledger.stored import (
    RESULT_FIELDS,
    STATUS_FIELDS,
    as_mapping,
    job_key,
    read_decision,
    read_job,
    read_part,
    read_result,
    read_section,
    read_stages,
    read_starts,
    read_statuses,
)
from tasks.parallel.part_spec import PartSpec


class JobViews:
    """Each method is one round trip, or two, and may raise `Unreachable`."""

    def __init__(self, store: Store, listening: Redis) -> None:
        """`listening` is the client for announcements: each listener keeps one of its connections."""
        self._store = store
        self._listening = listening

    # -- jobs ------------------------------------------------------------------------------------

    async def read(self, job_id: str) -> tuple[Job, str, Decision | None] | None:
        """The job, its state and its routing decision so far; None if there is no such job.

        Its input is missing where the parts hold it.
        """
        (fields,) = await self._store.run(("HMGET", job_key(job_id), "spec", "input", "state", "decision"))
        spec, bulk, state, decision = fields
        if state is None:
            return None
        return read_job(spec, bulk), state, read_decision(decision) if decision else None

    async def result(self, job_id: str, *, outputs: bool = True) -> Result | None:
        """The job as it stands now, or None. Without `outputs` the joined text is the only one that is read."""
        key = job_key(job_id)
        commands: list[Words] = [("HMGET", key, *RESULT_FIELDS), ("HGETALL", f"{key}:parts")]
        if outputs:
            commands.append(("HGETALL", f"{key}:outputs"))
        fields, parts, *texts = await self._store.run(*commands)
        return None if fields[0] is None else read_result(job_id, fields, parts, *texts)

    @asynccontextmanager
    async def announcements(self, job_id: str) -> AsyncIterator[Any]:
        """Subscribe to the announcements of a job's steps. They may be missed: read the record too."""
        async with self._listening.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(f"{job_key(job_id)}:events")
            yield channel

    async def summaries(self, job_ids: Sequence[str]) -> list[JobSummary | None]:
        """The summary of each job; None where there is no such job."""
        fields = ("state", "kind", "n", "left", "priority", "deadline_at", "sent", "starts", "children", "parent")
        replies = await self._store.run(*(("HMGET", job_key(job_id), *fields) for job_id in job_ids))
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
                starts=read_starts(starts),
                has_children=children is not None,
                parent=parent,
            )
            for state, kind, n, left, priority, deadline_at, sent, starts, children, parent in replies
        ]

    async def states(self, job_ids: Sequence[str]) -> list[str | None]:
        """The state of each job; None where there is no such job."""
        return list(await self._store.run(*(("HGET", job_key(job_id), "state") for job_id in job_ids)))

    async def routes(self, job_ids: Sequence[str]) -> list[str]:
        """The route of each job, "" where it has none."""
        replies = await self._store.run(*(("HGET", job_key(job_id), "decision") for job_id in job_ids))
        return ["" if reply is None else read_decision(reply).route for reply in replies]

    async def children(self, job_id: str) -> list[str]:
        """The child jobs of a job, also those of parts that were never sent."""
        known, n = await self._store.run(("HGET", job_key(job_id), "children"), ("HGET", job_key(job_id), "n"))
        if known is None:
            return []
        (reply,) = await self._store.run(
            ("HMGET", f"{job_key(job_id)}:parts", *(f"{index}:job" for index in range(int(n or 0))))
        )
        return [child for child in reply if child]

    # -- parts -----------------------------------------------------------------------------------

    async def progress(self, job_id: str) -> Progress:
        """How far a job with parts has come."""
        fields = ("n", "left", "sent", "base", "stages", "starts")
        ((n, left, sent, base, stages, starts),) = await self._store.run(("HMGET", job_key(job_id), *fields))
        return Progress(
            int(n or 0), int(left or 0), int(sent or 0), int(base or 0), read_stages(stages), read_starts(starts)
        )

    async def spent(self, job_id: str) -> float:
        """USD that the attempts of a job have cost, and that those that run have booked."""
        ((spent, booked),) = await self._store.run(("HMGET", job_key(job_id), "spent", "booked"))
        return float(spent or 0) + float(booked or 0)

    async def tally(self, job_id: str) -> dict[str, float]:
        """The total weight of each ballot of a vote so far, by the ballot's digest."""
        (reply,) = await self._store.run(("HGETALL", f"{job_key(job_id)}:ballots"))
        return {ballot: float(weight) for ballot, weight in as_mapping(reply).items()}

    async def statuses(self, job_id: str, first: int, count: int) -> list[PartStatus]:
        """Where `count` parts of a job stand, from index `first` on."""
        if not count:
            return []
        indices = range(first, first + count)
        names = [f"{index}:{field}" for index in indices for field in STATUS_FIELDS]
        (reply,) = await self._store.run(("HMGET", f"{job_key(job_id)}:parts", *names))
        return read_statuses(indices, reply)

    async def problem(self, job_id: str, index: int) -> str:
        """Why a part was put back, the last time; "" where it never was."""
        (reply,) = await self._store.run(("HGET", f"{job_key(job_id)}:parts", f"{index}:problem"))
        return reply or ""

    async def specs(self, job_id: str, indices: Sequence[int]) -> list[PartSpec]:
        """The specs of these parts as they were planned, without model, job and error."""
        if not indices:
            return []
        titles, texts = await self._store.run(
            ("HMGET", f"{job_key(job_id)}:parts", *(f"{index}:title" for index in indices)),
            ("HMGET", f"{job_key(job_id)}:inputs", *(name for index in indices for name in (index, f"x{index}"))),
        )
        return [
            read_part(extras, title=title or "", text=read_section(section))
            for title, section, extras in zip(titles, texts[::2], texts[1::2], strict=True)
        ]

    async def outcomes(self, job_id: str, first: int, count: int) -> list[Part]:
        """How these parts ended: all that a join reads of them, the other fields are empty."""
        if not count:
            return []
        key, indices = job_key(job_id), range(first, first + count)
        names = [f"{index}:{field}" for index in indices for field in ("state", "model", "title", "record")]
        states, outputs = await self._store.run(
            ("HMGET", f"{key}:parts", *names),
            ("HMGET", f"{key}:outputs", *indices),
        )
        found = []
        for index, state, model, title, stored, output in zip(
            indices, states[::4], states[1::4], states[2::4], states[3::4], outputs, strict=True
        ):
            record = json.loads(stored) if stored else {}
            finish = record.get("finish") if output is not None else None
            found.append(
                Part(
                    index=index,
                    state=state or "waiting",
                    model=model or None,
                    title=title or "",
                    output=output,
                    finish_reason=finish,
                    truncated=finish == "length",
                    error=record.get("error") if output is None else None,
                )
            )
        return found
