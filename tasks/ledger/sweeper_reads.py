"""What the sweeper reads of many parts at once."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contract.job import Job
from tasks.contract.result import FINAL
from tasks.ledger.jobs import MOST_MOVES
from tasks.ledger.records import MovablePart, PartStatus
from tasks.ledger.store import Store, Words
from tasks.ledger.stored import (
    STATUS_FIELDS,
    job_key,
    read_decision,
    read_job,
    read_part,
    read_section,
    read_statuses,
    read_tried,
)


class SweeperReads:
    """A part is a pair of its job and its index. Each method is one round trip and may raise `Unreachable`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def statuses(self, parts: Sequence[tuple[str, int]]) -> list[PartStatus]:
        """Where each part stands."""
        replies = await self._store.run(
            *(
                ("HMGET", f"{job_key(job_id)}:parts", *(f"{index}:{field}" for field in STATUS_FIELDS))
                for job_id, index in parts
            )
        )
        return [read_statuses([index], reply)[0] for (_, index), reply in zip(parts, replies, strict=True)]

    async def movable_parts(self, parts: Sequence[tuple[str, int]]) -> list[MovablePart | None]:
        """What it takes to find another model for each part; None where the part may not move."""
        if not parts:
            return []
        fields = ("state", "model", "tried", "moved", "queued_at")
        commands: list[Words] = [("TIME",)]
        for job_id, index in parts:
            commands += [
                ("HMGET", f"{job_key(job_id)}:parts", *(f"{index}:{field}" for field in fields)),
                ("HMGET", job_key(job_id), "state", "decision"),
                ("HGET", f"{job_key(job_id)}:inputs", f"x{index}"),
            ]
        clock, *replies = await self._store.run(*commands)
        now = int(clock[0]) * 1000 + int(clock[1]) // 1000
        found: list[MovablePart | None] = []
        for (state, model, tried, moved, queued_at), (job_state, decision), extras in zip(
            replies[::3], replies[1::3], replies[2::3], strict=True
        ):
            moves = len((moved or "").split())
            movable = state in {"queued", "waiting"} and job_state not in FINAL and decision and moves < MOST_MOVES
            found.append(
                MovablePart(
                    state=state,
                    model=model or None,
                    decision=read_decision(decision),
                    tried=read_tried(tried),
                    moves=moves,
                    waited_s=max(0.0, (now - int(queued_at or now)) / 1000),
                    candidates=read_part(extras).candidates,
                )
                if movable
                else None
            )
        return found

    async def inputs(self, parts: Sequence[tuple[str, int]]) -> list[tuple[Job, str | None] | None]:
        """The job of each part, and the section that the part is; None where the job is gone."""
        commands: list[Words] = []
        for job_id, index in parts:
            commands += [("HMGET", job_key(job_id), "spec", "input"), ("HGET", f"{job_key(job_id)}:inputs", index)]
        replies = await self._store.run(*commands)
        found: list[tuple[Job, str | None] | None] = []
        for (spec, bulk), text in zip(replies[::2], replies[1::2], strict=True):
            if spec is None:
                found.append(None)
                continue
            section = read_section(text)
            found.append((read_job(spec, None if section is not None else bulk), section))
        return found
