"""The simulated fleet: requests come, are routed, admitted late, called, tried again, and end.

Every number of chance comes from the seed, in an order that does not depend on the strategy where that is possible:
arrivals, keys and lengths are the same for all strategies of one seed.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, count
from random import Random
from typing import Any

from ops.evaluate.simulation.record import Record
from ops.evaluate.simulation.scenarios import Scenario
from ops.evaluate.simulation.simulated_model import Call, SimulatedModel
from tasks.calling.attempt import add_attempt
from tasks.calling.retry import decide
from tasks.config.models import Model
from tasks.contract.errors import Overloaded
from tasks.routing.choose import pick_model
from tasks.routing.options import is_sticky, strategy_named
from tasks.routing.snapshot import ModelLoad, Preference, Ranking, Request, Snapshot, Traits

#: One in so many arrivals looks at how evenly the calls are spread.
LOOK_ONE_IN = 16

WaitingList = tuple[tuple[str, ...], bool]


def simulate(scenario: Scenario, strategy: str, seed: int) -> dict[str, Any]:
    """The figures of one run, as `Record.figures` has them.

    Raises:
        BadInput: if there is no such strategy.
    """
    fleet = SimulatedFleet(scenario, strategy, seed)
    record = fleet.run()
    return record.figures(fleet.changed)


class SimulatedFleet:
    """One run. Times are seconds of the simulation."""

    def __init__(self, scenario: Scenario, strategy: str, seed: int) -> None:
        self._scenario = scenario
        self._strategy, self._sticky = strategy_named(strategy), is_sticky(strategy)
        specs = [(name, spec) for spec in scenario.models for name in spec.names]
        self._models = {
            name: SimulatedModel(name, place, spec, present=spec.joins == 0) for place, (name, spec) in enumerate(specs)
        }
        self._of_route: list[list[SimulatedModel]] = [[] for _ in range(scenario.routes)]
        for place, model in enumerate(self._models.values()):
            self._of_route[place % scenario.routes].append(model)
        self._candidates: list[tuple[str, ...]] = []
        self._traits = {name: Traits(weight=spec.weight) for name, spec in specs}
        self._join()
        self.record = Record(list(self._models), [place % scenario.routes for place in range(len(specs))])
        #: The waiting lists of each route, as in `admission.lua`: models that may take a call, and the calls.
        self._waiting_lists: list[dict[WaitingList, deque[Call]]] = [{} for _ in range(scenario.routes)]
        self._turns = [0] * scenario.routes
        self._looks: dict[tuple[int, int], tuple[float, Mapping[str, ModelLoad]]] = {}
        self._last_of: dict[str, str] = {}
        self._arriving, self._serving, self._deciding = (Random(f"{seed} {what}") for what in "asd")  # noqa: S311
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = count()
        self._now = 0.0
        self._keys = self._zipf()

    @property
    def changed(self) -> tuple[int, float] | None:
        """The first model that joins late or heals, and when."""
        for model in self._models.values():
            if model.spec.joins:
                return model.place, model.spec.joins
            healed = [slow.until for slow in model.spec.slow if slow.until is not None]
            if healed:
                return model.place, max(healed)
        return None

    def run(self) -> Record:
        for model in self._models.values():
            if model.spec.joins:
                self._at(model.spec.joins, self._turn_up, model)
            if model.spec.leaves is not None:
                self._at(model.spec.leaves, self._leave, model)
        arrivals = self._arrivals()
        self._at(next(arrivals), self._arrive, arrivals, 1)
        while self._events:
            self._now, _, act, given = heapq.heappop(self._events)
            act(*given)
        self.record.ended = self._now
        # Nobody is left who could take them.
        self.record.failed += sum(
            len(calls) for waiting_lists in self._waiting_lists for calls in waiting_lists.values()
        )
        return self.record

    # -- what happens ----------------------------------------------------------------------------

    def _at(self, when: float, act: Callable[..., None], *given: Any) -> None:
        heapq.heappush(self._events, (when, next(self._serial), act, given))

    def _arrivals(self) -> Iterator[float]:
        now, rate = 0.0, self._scenario.rate
        while True:
            now += 1 / rate if self._scenario.arrivals == "even" else self._arriving.expovariate(rate)
            yield now

    def _arrive(self, arrivals: Iterator[float], number: int) -> None:
        if number < self._scenario.requests:
            self._at(next(arrivals), self._arrive, arrivals, number + 1)
        chance, scenario = self._arriving, self._scenario
        call = Call(
            arrived=self._now,
            route=chance.randrange(scenario.routes) if scenario.routes > 1 else 0,
            key=self._key(chance, number),
            tokens=self._length(chance),
        )
        if number % LOOK_ONE_IN == 0:
            self._look_around(call.route)
        router = chance.randrange(scenario.routers) if scenario.routers > 1 else 0
        snapshot = self._snapshot(call.route, router)
        ranking = self._rank(call, self._candidates[call.route], snapshot)
        if not scenario.fresh_admission:
            # The router sends it where its old look says, and there it stands.
            self._admit(call, self._models[pick_model(ranking, snapshot)])
            return
        self._wait(call, ranking)
        self._feed(call.route)

    def _rank(self, call: Call, candidates: tuple[str, ...], snapshot: Snapshot) -> Ranking:
        request = Request(
            route="",
            key=call.key,
            key_given=bool(self._keys),
            seed=self._deciding.getrandbits(64),
            traits=self._traits,
        )
        return self._strategy(request, candidates, snapshot)

    def _snapshot(self, route: int, router: int = 0, *, fresh: bool = False) -> Snapshot:
        if fresh or not self._scenario.stale_s:
            self._turns[route] += 1
            return Snapshot(self._turns[route], self._look(route))
        looked = self._looks.get((route, router))
        if looked is None or self._now - looked[0] >= self._scenario.stale_s:
            # They don't all look in the same moment.
            since = self._now if looked is not None else self._now - self._deciding.random() * self._scenario.stale_s
            looked = self._looks[route, router] = since, self._look(route)
        self._turns[route] += 1
        return Snapshot(self._turns[route], looked[1])

    def _look(self, route: int) -> dict[str, ModelLoad]:
        now = self._now
        return {model.name: model.seen(now) for model in self._of_route[route]}

    def _admit(self, call: Call, model: SimulatedModel) -> None:
        call.admitted = self._now
        if self._keys and not call.tried:
            last = self._last_of.get(call.key)
            self._last_of[call.key] = model.name
            if last is not None:
                self.record.kept += last == model.name
                self.record.moved += last != model.name
        if model.running < model.spec.capacity and model.breaker.lets_through(self._now):
            self._start(call, model)
        else:
            model.queue.append(call)

    def _start(self, call: Call, model: SimulatedModel) -> None:
        now = self._now
        call.started, call.probe = now, model.breaker.start()
        model.running += 1
        model.count(now)
        self.record.attempt(now, model.place)
        seconds, good = model.draw(call, now, self._serving)
        self._at(now + seconds, self._end, call, model, good)

    def _end(self, call: Call, model: SimulatedModel, good: bool) -> None:  # noqa: FBT001 - an event's own
        now = self._now
        model.running -= 1
        opens = model.learn(call, now, good=good)
        if opens is not None:
            self._at(opens, self._feed, call.route)
            for queued in (*model.queue,):
                self._again(queued, self._candidates[call.route], ())
            model.queue.clear()
        if good:
            self.record.latencies.append(now - call.arrived)
        else:
            self._failed(call, model)
        while model.queue and model.running < model.spec.capacity and model.breaker.lets_through(now):
            self._start(model.queue.popleft(), model)
        self._feed(call.route)

    def _failed(self, call: Call, model: SimulatedModel) -> None:
        error = Overloaded(model.name, "a simulated failure", status=503)
        call.tried = add_attempt(call.tried, model.name, error)
        able = dict.fromkeys(
            self._candidates[call.route], Model(provider="simulated", attempts=self._scenario.attempts)
        )
        verdict = decide(error, call.tried, able, rng=self._deciding, sticky=self._sticky)
        if isinstance(verdict, str):
            self.record.failed += 1
        elif verdict.delay_s > 0:
            self._at(self._now + verdict.delay_s, self._come_back, call, verdict.candidates, verdict.fallbacks)
        else:
            self._again(call, verdict.candidates, verdict.fallbacks)

    def _come_back(self, call: Call, candidates: tuple[str, ...], fallbacks: tuple[str, ...]) -> None:
        self._again(call, candidates, fallbacks)
        self._feed(call.route)

    def _again(self, call: Call, candidates: Sequence[str], fallbacks: Sequence[str]) -> None:
        """As `tasks.routing.choose.rank_again`."""
        if fallbacks or len(candidates) == 1:
            preferences = [Preference(model, float(place)) for place, model in enumerate((*candidates, *fallbacks))]
            ranking = Ranking(tuple(preferences), bound=True, reason="")
        else:
            ranking = self._rank(call, tuple(candidates), self._snapshot(call.route, fresh=True))
        self._wait(call, ranking)

    def _turn_up(self, model: SimulatedModel) -> None:
        model.present = True
        self._join()

    def _leave(self, model: SimulatedModel) -> None:
        model.present = False
        self._join()
        route = model.place % self._scenario.routes
        for call in (*model.queue,):
            self._again(call, self._candidates[route], ())
        model.queue.clear()
        self._feed(route)

    def _join(self) -> None:
        self._candidates = [
            tuple([model.name for model in models if model.present]) or tuple([model.name for model in models])
            for models in self._of_route
        ]

    # -- late admission, as in admission.lua ------------------------------------------------------

    def _wait(self, call: Call, ranking: Ranking) -> None:
        names = [preference.model for preference in ranking.preferences]
        if ranking.bound and ranking.balance is not None:
            names = self._level(names, ranking.balance)
        if not ranking.bound:
            names.sort()
        call.ranking, call.waits_since = ranking, self._now
        self._waiting_lists[call.route].setdefault((tuple(names), ranking.bound), deque()).append(call)
        self._count_waiting(names, 1, bound=ranking.bound)

    def _count_waiting(self, names: Sequence[str], by: int, *, bound: bool) -> None:
        if bound:
            first = self._models[names[0]]
            first.waiting += by
            first.bound += by
        else:
            for name in names:
                self._models[name].waiting += by

    def _level(self, names: list[str], balance: float) -> list[str]:
        """Bounded load: to the front the first that has less than `balance` times its share."""
        models = [self._models[name] for name in names]
        total = 1 + sum([model.pending + model.bound for model in models])
        room = sum([model.spec.capacity for model in models if not model.closed(self._now)])
        for place, model in enumerate(models):
            most = math.ceil(balance * total * model.spec.capacity / room) if room else 0
            if not model.closed(self._now) and model.pending + model.bound < most:
                return [names[place], *names[:place], *names[place + 1 :]]
        return names

    def _feed(self, route: int) -> None:
        waiting_lists = self._waiting_lists[route]
        while waiting_lists:
            best: tuple[float, WaitingList, SimulatedModel] | None = None
            for waiting_list, calls in waiting_lists.items():
                if best is None or calls[0].waits_since < best[0]:
                    model = self._choose(waiting_list, calls[0])
                    if model is not None:
                        best = calls[0].waits_since, waiting_list, model
            if best is None:
                return
            _, waiting_list, model = best
            call = waiting_lists[waiting_list].popleft()
            if not waiting_lists[waiting_list]:
                del waiting_lists[waiting_list]
            self._count_waiting(waiting_list[0], -1, bound=waiting_list[1])
            self._admit(call, model)

    def _choose(self, waiting_list: WaitingList, call: Call) -> SimulatedModel | None:
        """The model with room that the call wants most."""
        names, bound = waiting_list
        now = self._now
        if bound:
            first = self._models[names[0]]
            if not first.closed(now):
                return first if first.has_room(now) else None
        assert call.ranking is not None
        found, least = None, math.inf
        for name, base, slope in call.ranking.preferences:
            model = self._models[name]
            if model.has_room(now) and not model.closed(now):
                score = base + (slope * model.load if slope else 0.0)
                if found is None or score < least:
                    found, least = model, score
        return found

    # -- chance, and what is looked at -----------------------------------------------------------

    def _zipf(self) -> list[float]:
        keys = self._scenario.keys
        return list(accumulate((place + 1) ** -keys.exponent for place in range(keys.count))) if keys else []

    def _key(self, chance: Random, number: int) -> str:
        if not self._keys:
            return f"{number}"
        return f"k{bisect_left(self._keys, chance.random() * self._keys[-1])}"

    def _length(self, chance: Random) -> int | None:
        answers = self._scenario.answers
        if answers is None:
            return None
        return max(1, round(answers.median * math.exp(answers.sigma * chance.gauss(0.0, 1.0))))

    def _look_around(self, route: int) -> None:
        loads = [model.load for model in self._of_route[route] if model.present]
        mean = sum(loads) / len(loads)
        if sum([model.pending for model in self._of_route[route]]) >= len(loads):
            self.record.crests.append(max(loads) / mean)
