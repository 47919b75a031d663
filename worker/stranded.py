"""Work that stands where nobody will do it in time goes to another candidate.

Calls strand in the queue of a model that was closed after they were admitted (its breaker opened, its workers died, its
budget is used up, an operator drains it), and in a queue that is longer than their job's deadline. The sweeper's leader
looks once a second. A call moves in three steps, each of which is safe to repeat or to die after:

1. its message is taken out of the broker's list, to the letter: who gets hold of it is the only one;
2. the ledger has the part wait, and notes where it stood in vain; this bounds how often it moves;
3. it enters the backlog with the ranking of its strategy, as a call does that is tried again, and is admitted.

After a crash between them the call's lease lapses, and the sweeper finds it without a message. A message that was out
of sight, in the hands of a worker, is of no use later: its model is no longer that of the call (`tasks.call`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from tasks.calling.retry import Bounds, unspent
from tasks.contract.errors import PointsmanError
from tasks.contract.ids import CallId
from tasks.contract.result import FINAL
from tasks.ledger.fleet import Admitted
from tasks.queue.app import model_queue
from tasks.queue.lists import Entry, ahead
from tasks.routing.choose import rank_again
from tasks.routing.deadline import estimate_total_s, estimate_wait_s, is_too_late

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.ledger import Ledger
    from tasks.ledger.records import MovablePart
    from tasks.ledger.store import Command, Words
    from tasks.routing.snapshot import Ranking, Snapshot

__all__ = ["Stranded"]

log = structlog.get_logger(__name__)

#: Messages of one queue that are read together, and how often that in one sweep while all of them move: what is left
#: comes with the next sweep.
WINDOW = 200
ROUNDS = 5
#: Calls whose inputs are in memory together: one may have some megabytes.
TOGETHER = 20
#: Jobs whose deadline is near that one sweep looks at, and how many messages of a queue it reads to find them.
MOST_PRESSED = 200
MOST_READ = 2000
#: Seconds: deadlines that are further off are no reason to move, however long a queue is.
FURTHEST = 3600.0

#: The reason of a move that nothing closed.
DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Stuck:
    """A call at a model where it shall not stay. `entry` is its message, None where it has none."""

    call: CallId
    model: str
    why: str
    entry: Entry | None = None
    #: Seconds until its deadline, where it goes only to who ends it in time; None: to whichever candidate is open.
    left_s: float | None = None
    #: ``queued``, or ``waiting``: in the backlog, bound to the model.
    state: str = "queued"


class Stranded:
    """Belongs to the sweeper: its methods return calls that were admitted, whose messages shall be published."""

    def __init__(self, ledger: Ledger, config: Config) -> None:
        self._ledger = ledger
        self._config = config
        #: Models whose calls shall go, and why.
        self._shut: Mapping[str, str] = {}
        self._dead: Collection[str] = ()
        #: Of each queue, how many of its first messages were found to stay.
        self._stay: dict[str, int] = {}
        self._turns = itertools.count(1)

    async def sweep(self) -> list[Admitted]:
        """One round."""
        try:
            return await self._sweep()
        except PointsmanError:
            raise
        except Exception:
            # A record that another version wrote, say. What else the sweeper does must go on.
            log.exception("sweep.stranded_failed")
            return []

    async def _sweep(self) -> list[Admitted]:
        snapshot = await self._ledger.fleet.snapshot()
        closed = self._closed(snapshot)
        drained = await self._ledger.fleet.drained() if "drained" in closed.values() else {}
        self._shut = {model: why for model, why in closed.items() if why != "drained" or drained.get(model)}
        self._stay = {model: stay for model, stay in self._stay.items() if model in self._shut}
        admitted: list[Admitted] = []
        if any(load.capacity and not load.closed for load in snapshot.models.values()):
            for model, why in self._shut.items():
                if snapshot.models[model].pending:
                    admitted += await self._clear(model, why, snapshot)
            if closed:
                admitted += await self._unbind(closed, snapshot)
            admitted += await self._hurry(snapshot)
        return admitted

    async def rehome(self, calls: Sequence[Admitted]) -> list[Admitted]:
        """Calls that stand in a queue, but have no message there: those that can't move are returned as they came."""
        stuck = [Stuck(call, model, self._shut[model]) for call, model in calls if model in self._shut]
        if not stuck:
            return list(calls)
        try:
            moved, admitted = await self._move(stuck, await self._ledger.fleet.snapshot())
        except PointsmanError:
            raise
        except Exception:
            log.exception("sweep.stranded_failed")
            return list(calls)
        return [place for place in calls if place.call not in moved] + admitted

    def _closed(self, snapshot: Snapshot) -> dict[str, str]:
        """The closed models, and why; but for those that are only just dead.

        When Redis was away all models seem dead until the next heartbeat of their workers: one more sweep tells.
        """
        closed = {model: load.closed for model, load in snapshot.models.items() if load.closed}
        before, self._dead = self._dead, {model for model, why in closed.items() if why == "dead"}
        return {model: why for model, why in closed.items() if why != "dead" or model in before}

    # -- models that are closed ----------------------------------------------------------------------

    async def _unbind(self, closed: Mapping[str, str], snapshot: Snapshot) -> list[Admitted]:
        """Move what waits in the backlog for closed models alone: others were closed when it was placed, say."""
        stuck: list[Stuck] = []
        for lane, call in await self._ledger.fleet.waiting_for_closed(WINDOW):
            model = lane.replace(">", ",").partition(",")[0]
            if model in closed:
                stuck.append(Stuck(call, model, closed[model], state="waiting"))
        return (await self._move(stuck, snapshot))[1]

    async def _clear(self, model: str, why: str, snapshot: Snapshot) -> list[Admitted]:
        """Move what can move from a queue, from its head on: what can't is passed over until its end is reached."""
        admitted: list[Admitted] = []
        for _ in range(ROUNDS):
            stay = self._stay.pop(model, 0)
            entries = await ahead(self._ledger.store, model_queue(model), skip=stay, most=WINDOW)
            stuck = [Stuck(call, model, why, entry) for entry in entries if (call := _call_of(entry)) is not None]
            moved, more = await self._move(stuck, snapshot)
            admitted += more
            if len(entries) < WINDOW:
                break
            if len(moved) < len(entries):
                self._stay[model] = stay + len(entries) - len(moved)
                break
        return admitted

    # -- jobs whose deadline is near -----------------------------------------------------------------

    async def _hurry(self, snapshot: Snapshot) -> list[Admitted]:
        """Move calls whose model will be too late, and another candidate will not."""
        loads = {model: load for model, load in snapshot.models.items() if load.capacity and not load.closed}
        if not any(estimate_wait_s(load) > 0 for load in loads.values()):
            return []
        fleet = self._ledger.fleet
        horizon = min(FURTHEST, max(map(estimate_total_s, loads.values())))
        left = await fleet.near_deadlines(within=horizon, most=MOST_PRESSED)
        calls = await self._standing(list(left))
        statuses = await self._ledger.sweep.statuses([(call.job, call.index) for call in calls])
        queued = {str(call): part.model for call, part in zip(calls, statuses, strict=True) if part.state == "queued"}
        waiting = [call for call, status in zip(calls, statuses, strict=True) if status.state == "waiting"]
        places: list[tuple[CallId, str, int, Entry | None]] = []
        for model in set(queued.values()) & loads.keys():
            entries = await ahead(self._ledger.store, model_queue(model), most=MOST_READ)
            running = max(0, loads[model].pending - len(entries))
            for before, entry in enumerate(entries, start=min(running, loads[model].capacity)):
                if queued.get(entry.id) == model:
                    places.append((CallId.parse(entry.id), model, before, entry))
        for call, (lane, rank) in zip(waiting, await fleet.waiting_positions(waiting), strict=True):
            model = lane.partition(">")[0]
            if model in loads:  # it waits for this one alone
                # Without a message: none was published.
                places.append((call, model, loads[model].pending + rank, None))
        stuck: list[Stuck] = []
        for call, model, before, message in places:
            seconds = left[call.job]
            if is_too_late(snapshot.models[model], seconds, before=before):
                state = "queued" if message is not None else "waiting"
                stuck.append(Stuck(call, model, DEADLINE, message, seconds, state))
        return (await self._move(stuck, snapshot))[1]

    async def _standing(self, job_ids: Sequence[str]) -> list[CallId]:
        """The calls of these jobs; jobs that have ended are forgotten."""
        views = self._ledger.views
        calls: list[CallId] = []
        over: list[str] = []
        for job, summary in zip(job_ids, await views.summaries(job_ids), strict=True):
            if summary is None or summary.state in FINAL:
                over.append(job)
            elif summary.kind == "single":
                calls.append(CallId(job, 0))
            elif summary.n is not None:
                parts = await views.statuses(job, 0, summary.sent)
                calls += [summary.call(job, part.index) for part in parts if part.state in {"queued", "waiting"}]
        await self._ledger.fleet.unwatch(over)
        return calls[:MOST_READ]

    # -- moving --------------------------------------------------------------------------------------

    async def _move(self, stuck: Sequence[Stuck], snapshot: Snapshot) -> tuple[set[CallId], list[Admitted]]:
        """Move what can move; returns which calls did, and who was admitted."""
        parked = await self._ledger.sweep.movable_parts([(item.call.job, item.call.index) for item in stuck])
        ready: list[tuple[Stuck, MovablePart, tuple[str, ...]]] = []
        for item, part in zip(stuck, parked, strict=True):
            if part is None or part.state != item.state or (part.state == "queued" and part.model != item.model):
                continue
            candidates, snapshot = self._candidates(item, part, snapshot)
            if candidates:
                ready.append((item, part, candidates))
        moved: set[CallId] = set()
        admitted: list[Admitted] = []
        for start in range(0, len(ready), TOGETHER):
            some, more = await self._move_some(ready[start : start + TOGETHER], snapshot)
            moved |= some
            admitted += more
        await self._ledger.mark_queued(admitted)
        for model, why in dict.fromkeys((item.model, item.why) for item in stuck if item.call in moved):
            count = sum(item.call in moved and item.model == model for item in stuck)
            log.info("sweep.moved", model=model, why=why, calls=count)
        return moved, admitted

    def _candidates(self, item: Stuck, part: MovablePart, snapshot: Snapshot) -> tuple[tuple[str, ...], Snapshot]:
        """The candidates among which a call shall choose anew, none where no other is open; and the load with it."""
        models, loads = self._config.models, snapshot.models
        named = part.candidates or [each.model for each in part.decision.candidates if not each.reason]
        able = [name for name in named if name in models]
        may = unspent(part.tried, Bounds(attempts={name: models[name].attempts for name in able}))
        others = [name for name in may if name != item.model and loads[name].capacity and not loads[name].closed]
        if item.left_s is None:
            # Every model with attempts left, this one too: admission passes over closed models, and this one may open
            # before another has room.
            return (may if others else ()), snapshot
        in_time = tuple(name for name in others if not is_too_late(loads[name], item.left_s))
        if in_time:
            # The next is behind this one there.
            snapshot = snapshot.after(min(in_time, key=lambda name: estimate_total_s(loads[name])))
        return in_time, snapshot

    async def _move_some(
        self, ready: Sequence[tuple[Stuck, MovablePart, tuple[str, ...]]], snapshot: Snapshot
    ) -> tuple[set[CallId], list[Admitted]]:
        jobs, run = self._ledger.jobs, self._ledger.store.run
        inputs = await self._ledger.sweep.inputs([(item.call.job, item.call.index) for item, _, _ in ready])
        going: list[tuple[Stuck, Command[list[Admitted]]]] = []
        for (item, part, candidates), known in zip(ready, inputs, strict=True):
            if known is None:
                continue
            job, section = known
            turn = replace(snapshot, turn=next(self._turns))
            try:
                ranking = rank_again(
                    job, part.decision, self._config, turn, candidates=candidates, fallbacks=(), text=section
                )
            except Exception:
                # A strategy that somebody plugged in: this call stays, the others don't.
                log.exception("sweep.no_ranking", call=str(item.call), strategy=part.decision.strategy)
                continue
            going.append((item, self._leaving(item, part, ranking, priority=job.priority)))
        taken = await run(*(_taking(item.entry) for item, _ in going)) if going else []
        going = [each for each, count in zip(going, taken, strict=True) if count]
        if not going:
            return set(), []
        words = await run(
            *(jobs.move(item.call.job, item.call.index, item.state, item.model, item.why) for item, _ in going)
        )
        kept = [item for (item, _), word in zip(going, words, strict=True) if word == "spent"]
        # Another sweeper was quicker: it stays after all.
        back = [("RPUSH", item.entry.list, item.entry.message) for item in kept if item.entry is not None]
        going = [each for each, word in zip(going, words, strict=True) if word == "ok"]
        replies = (await run(*(leaving for _, leaving in going), *back))[: len(going)] if going or back else []
        return {item.call for item, _ in going}, [each for reply in replies for each in reply]

    def _leaving(self, item: Stuck, part: MovablePart, ranking: Ranking, *, priority: str) -> Command[list[Admitted]]:
        return self._ledger.fleet.move(item.call, item.model, ranking, priority=priority, waited_s=part.waited_s)


def _taking(entry: Entry | None) -> Words:
    """The command that takes a message out of its list; its reply is 0 where somebody else did."""
    return ("LREM", entry.list, -1, entry.message) if entry is not None else ("ECHO", "1")


def _call_of(entry: Entry) -> CallId | None:
    """The call that a message is about; None for one that an operator put there."""
    try:
        return CallId.parse(entry.id)
    except ValueError:
        return None
