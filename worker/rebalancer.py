"""Rebalancing: stranded calls move from closed or slow models to other candidates.

A call is stranded in the queue of a model that was closed after it was admitted (its breaker opened, its workers died,
its budget is used up, an operator drains it), and in a queue that is longer than its job's deadline allows. The leading
sweeper looks once a second. A call moves in three steps; each is safe to repeat, and a crash may follow each:

1. Its message is removed from the broker's list, by its exact bytes: only one process can succeed in that.
2. The ledger has the part wait, and notes which model it has left; this bounds how often a part moves.
3. It enters the backlog with a new ranking of its strategy, as a call does that is tried again, and is admitted.

After a crash between them the call's lease lapses, and the sweeper finds the call without a message. A message that a
worker had reserved meanwhile starts nothing later: its model is no longer that of the call (`tasks.call`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from tasks.calling.retry import unspent
from tasks.config.config import Config
from tasks.contract.errors import PointsmanError
from tasks.contract.job import CallId
from tasks.contract.result import FINAL
from tasks.ledger import Ledger
from tasks.ledger.fleet import Admitted
from tasks.ledger.records import MovablePart
from tasks.ledger.store import Command
from tasks.queue.app import Entry, ahead, model_queue
from tasks.routing.choose import rank_again
from tasks.routing.snapshot import Snapshot, estimate_total_s, estimate_wait_s, is_too_late

log = structlog.get_logger(__name__)

#: Messages of one queue that are read together, and how often in one sweep while all of them move. The next sweep goes
#: on.
WINDOW = 200
ROUNDS = 5
#: Calls whose inputs are in memory together: one may have some megabytes.
TOGETHER = 20
#: Jobs with a near deadline that one sweep looks at, and messages of a queue that it reads to find their calls.
MOST_NEAR = 200
MOST_READ = 2000
#: Seconds: no call moves for a deadline that is further off, however long its queue is.
FURTHEST = 3600.0

#: The reason of a move from a model that is open.
DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class StrandedCall:
    """A call that must leave its model. `entry` is its message, None where it has none."""

    call: CallId
    model: str
    why: str
    entry: Entry | None = None
    #: Seconds until its deadline: it moves to a candidate that ends it in time. None: to any open candidate.
    left_s: float | None = None
    #: ``queued``, or ``waiting``: in the backlog, bound to the model.
    state: str = "queued"


class Rebalancer:
    """Belongs to the sweeper. Its methods return the calls that were admitted; their messages must be published."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        self._ledger = ledger
        self.config = config
        #: Models whose queued calls must leave, and why.
        self._closed: Mapping[str, str] = {}
        self._dead: Collection[str] = ()
        #: For each queue, how many of its first messages can't move.
        self._immovable: dict[str, int] = {}
        self._turns = itertools.count(1)

    async def rebalance(self) -> list[Admitted]:
        """Move all stranded calls that can move, once."""
        admitted: list[Admitted] = []
        with _log_unexpected_error():
            await self._rebalance(admitted)
        return admitted

    async def _rebalance(self, admitted: list[Admitted]) -> None:
        snapshot = await self._ledger.fleet.snapshot()
        closed = self._find_closed(snapshot)
        drained = await self._ledger.fleet.drained() if "drained" in closed.values() else {}
        self._closed = {model: why for model, why in closed.items() if why != "drained" or drained.get(model)}
        self._immovable = {model: count for model, count in self._immovable.items() if model in self._closed}
        if any(load.capacity and not load.closed for load in snapshot.models.values()):
            for model, why in self._closed.items():
                if snapshot.models[model].pending:
                    admitted += await self._move_queued(model, why, snapshot)
            if closed:
                admitted += await self._move_waiting(closed, snapshot)
            admitted += await self._move_late(snapshot)

    async def move_lost(self, calls: Sequence[Admitted]) -> list[Admitted]:
        """Move calls of closed models whose messages are lost; those that can't move are returned unchanged."""
        stranded = [StrandedCall(call, model, self._closed[model]) for call, model in calls if model in self._closed]
        if stranded:
            with _log_unexpected_error():
                moved, admitted = await self._move(stranded, await self._ledger.fleet.snapshot())
                return [each for each in calls if each.call not in moved] + admitted
        return list(calls)

    def _find_closed(self, snapshot: Snapshot) -> dict[str, str]:
        """The closed models, and why. A model counts as dead when two sweeps in a row find it dead.

        After Redis was away, all models seem dead until the next heartbeat of their workers.
        """
        closed = {model: load.closed for model, load in snapshot.models.items() if load.closed}
        before, self._dead = self._dead, {model for model, why in closed.items() if why == "dead"}
        return {model: why for model, why in closed.items() if why != "dead" or model in before}

    # -- closed models -------------------------------------------------------------------------------

    async def _move_waiting(self, closed: Mapping[str, str], snapshot: Snapshot) -> list[Admitted]:
        """Move calls that wait in the backlog for closed models only: other candidates may be open by now."""
        stranded: list[StrandedCall] = []
        for waiting_list, call in await self._ledger.fleet.waiting_for_closed(WINDOW):
            model = waiting_list.replace(">", ",").partition(",")[0]
            if model in closed:
                stranded.append(StrandedCall(call, model, closed[model], state="waiting"))
        return (await self._move(stranded, snapshot))[1]

    async def _move_queued(self, model: str, why: str, snapshot: Snapshot) -> list[Admitted]:
        """Move the calls of a queue from its head on, and pass over those that can't move."""
        admitted: list[Admitted] = []
        for _ in range(ROUNDS):
            skip = self._immovable.pop(model, 0)
            entries = await ahead(self._ledger.store, model_queue(model), skip=skip, most=WINDOW)
            stranded = [StrandedCall(call, model, why, entry) for entry in entries if (call := _call_of(entry))]
            moved, more = await self._move(stranded, snapshot)
            admitted += more
            if len(entries) < WINDOW:
                break
            if len(moved) < len(entries):
                self._immovable[model] = skip + len(entries) - len(moved)
                break
        return admitted

    # -- near deadlines ------------------------------------------------------------------------------

    async def _move_late(self, snapshot: Snapshot) -> list[Admitted]:
        """Move calls that their model would end too late, and another candidate in time."""
        loads = {model: load for model, load in snapshot.models.items() if load.capacity and not load.closed}
        if not any(estimate_wait_s(load) > 0 for load in loads.values()):
            return []
        fleet = self._ledger.fleet
        horizon = min(FURTHEST, max(map(estimate_total_s, loads.values())))
        left = await fleet.near_deadlines(within=horizon, most=MOST_NEAR)
        calls = await self._pending_calls(list(left))
        statuses = await self._ledger.sweep.statuses([(call.job, call.index) for call in calls])
        queued = {str(call): part.model for call, part in zip(calls, statuses, strict=True) if part.state == "queued"}
        waiting = [call for call, status in zip(calls, statuses, strict=True) if status.state == "waiting"]
        stranded: list[StrandedCall] = []

        def add(call: CallId, model: str, before: int, entry: Entry | None) -> None:
            seconds = left[call.job]
            if is_too_late(snapshot.models[model], seconds, before=before):
                state = "queued" if entry is not None else "waiting"
                stranded.append(StrandedCall(call, model, DEADLINE, entry, seconds, state))

        for model in set(queued.values()) & loads.keys():
            entries = await ahead(self._ledger.store, model_queue(model), most=MOST_READ)
            running = max(0, loads[model].pending - len(entries))
            for before, entry in enumerate(entries, start=min(running, loads[model].capacity)):
                if queued.get(entry.id) == model:
                    add(CallId.parse(entry.id), model, before, entry)
        for call, (waiting_list, rank) in zip(waiting, await fleet.waiting_positions(waiting), strict=True):
            model = waiting_list.partition(">")[0]
            if model in loads:  # its only candidate
                add(call, model, loads[model].pending + rank, None)
        return (await self._move(stranded, snapshot))[1]

    async def _pending_calls(self, job_ids: Sequence[str]) -> list[CallId]:
        """The calls of these jobs that are queued or wait. Jobs that have ended are taken off the sweeper's lists."""
        views = self._ledger.views
        calls: list[CallId] = []
        ended: list[str] = []
        for job, summary in zip(job_ids, await views.summaries(job_ids), strict=True):
            if summary is None or summary.state in FINAL:
                ended.append(job)
            elif summary.kind == "single":
                calls.append(CallId(job, 0))
            elif summary.n is not None:
                parts = await views.statuses(job, 0, summary.sent)
                calls += [summary.call(job, part.index) for part in parts if part.state in {"queued", "waiting"}]
        await self._ledger.fleet.unwatch(ended)
        return calls[:MOST_READ]

    # -- moving --------------------------------------------------------------------------------------

    async def _move(self, stranded: Sequence[StrandedCall], snapshot: Snapshot) -> tuple[set[CallId], list[Admitted]]:
        """Move the calls that can move. Returns them, and the calls that were admitted."""
        parts = await self._ledger.sweep.movable_parts([(item.call.job, item.call.index) for item in stranded])
        ready: list[tuple[StrandedCall, MovablePart, tuple[str, ...]]] = []
        for item, part in zip(stranded, parts, strict=True):
            if part is None or part.state != item.state or (part.state == "queued" and part.model != item.model):
                continue
            candidates, snapshot = self._select_candidates(item, part, snapshot)
            if candidates:
                ready.append((item, part, candidates))
        moved: set[CallId] = set()
        admitted: list[Admitted] = []
        for start in range(0, len(ready), TOGETHER):
            some, more = await self._move_batch(ready[start : start + TOGETHER], snapshot)
            moved |= some
            admitted += more
        await self._ledger.mark_queued(admitted)
        for model, why in dict.fromkeys((item.model, item.why) for item in stranded if item.call in moved):
            count = sum(item.call in moved and item.model == model for item in stranded)
            log.info("sweep.moved", model=model, why=why, calls=count)
        return moved, admitted

    def _select_candidates(
        self, item: StrandedCall, part: MovablePart, snapshot: Snapshot
    ) -> tuple[tuple[str, ...], Snapshot]:
        """The models among which a call is ranked again, none where no other is open; and the load with the call."""
        models, loads = self.config.models, snapshot.models
        named = part.candidates or [each.model for each in part.decision.candidates if not each.reason]
        may = unspent(part.tried, {name: models[name] for name in named if name in models})
        others = [name for name in may if name != item.model and loads[name].capacity and not loads[name].closed]
        if item.left_s is None:
            # Every model with attempts left, this one too: admission passes over closed models, and this one may open
            # before another has room.
            return (may if others else ()), snapshot
        in_time = tuple(name for name in others if not is_too_late(loads[name], item.left_s))
        if in_time:
            # The next call stands behind this one there.
            snapshot = snapshot.after(min(in_time, key=lambda name: estimate_total_s(loads[name])))
        return in_time, snapshot

    async def _move_batch(
        self, ready: Sequence[tuple[StrandedCall, MovablePart, tuple[str, ...]]], snapshot: Snapshot
    ) -> tuple[set[CallId], list[Admitted]]:
        jobs, store = self._ledger.jobs, self._ledger.store
        inputs = await self._ledger.sweep.inputs([(item.call.job, item.call.index) for item, _, _ in ready])
        going: list[tuple[StrandedCall, Command[list[Admitted]]]] = []
        for (item, part, candidates), known in zip(ready, inputs, strict=True):
            if known is None:
                continue
            job, section = known
            turn = replace(snapshot, turn=next(self._turns))
            try:
                ranking = rank_again(
                    job, part.decision, self.config, turn, candidates=candidates, fallbacks=(), text=section
                )
            except Exception:
                # A plugged-in strategy failed: this call stays, the others move.
                log.exception("sweep.no_ranking", call=str(item.call), strategy=part.decision.strategy)
                continue
            move = self._ledger.fleet.move(
                item.call, item.model, ranking, priority=job.priority, waited_s=part.waited_s
            )
            going.append((item, move))
        # A count of 0: another process has the message.
        removed = await store.run(
            *(("LREM", item.entry.list, -1, item.entry.message) if item.entry else ("ECHO", "1") for item, _ in going)
        )
        going = [each for each, count in zip(going, removed, strict=True) if count]
        words = await store.run(
            *(jobs.move(item.call.job, item.call.index, item.state, item.model, item.why) for item, _ in going)
        )
        # A part that has moved too often stays: its message goes back to the head of the queue.
        spent = [item.entry for (item, _), word in zip(going, words, strict=True) if word == "spent"]
        await store.run(*(("RPUSH", entry.list, entry.message) for entry in spent if entry is not None))
        going = [each for each, word in zip(going, words, strict=True) if word == "ok"]
        admitted = await store.run(*(move for _, move in going))
        return {item.call for item, _ in going}, [each for some in admitted for each in some]


@contextmanager
def _log_unexpected_error() -> Iterator[None]:
    """Log a record that another version wrote, for example: the sweeper's other work must go on."""
    try:
        yield
    except PointsmanError:
        raise
    except Exception:
        log.exception("sweep.stranded_failed")


def _call_of(entry: Entry) -> CallId | None:
    """The call of a message; None for a message of an operator."""
    try:
        return CallId.parse(entry.id)
    except ValueError:
        return None
