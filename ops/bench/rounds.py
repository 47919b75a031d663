"""Rounds: each contestant does the same work in turn (A B C, A B C, …), so that drift of the machine hits all alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from ops.bench.bench_fleet import MockModel
from ops.bench.meter import Meter
from ops.bench.report import Round


@dataclass(frozen=True, slots=True)
class Size:
    """How much a benchmark does. What a field means to one benchmark its own page says."""

    calls: int
    rounds: int
    #: Calls at once, or what else is varied.
    levels: tuple[int, ...] = ()
    #: Seconds that the model takes.
    latency: float = 0.2


@dataclass(frozen=True, slots=True)
class Contestant:
    """`run(calls)` does so many calls and returns how many ended well. `pids` are who is measured, by role.

    `prepare(calls)` is done before each run, and not measured.
    """

    name: str
    settings: str
    run: Callable[[int], Awaitable[int]]
    pids: Mapping[str, int]
    prepare: Callable[[int], Awaitable[None]] | None = None


async def play(
    contestants: Sequence[Contestant], mock: MockModel | None, *, calls: int, rounds: int, warm_up: int
) -> dict[str, list[Round]]:
    """Warm all up, then measure them in turn, `calls` at a time."""
    for contestant in contestants:
        if warm_up:
            if contestant.prepare is not None:
                await contestant.prepare(warm_up)
            await contestant.run(warm_up)
    found: dict[str, list[Round]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            found[contestant.name].append(await _one(contestant, mock, calls))
    return found


async def _one(contestant: Contestant, mock: MockModel | None, calls: int) -> Round:
    if contestant.prepare is not None:
        await contestant.prepare(calls)
    if mock is not None:
        await mock.reset()
    meter = Meter(contestant.pids)
    answered = await contestant.run(calls)
    wall, cpu = meter.stop(calls)
    stats = await mock.stats() if mock is not None else {}
    return Round(
        calls=calls,
        answered=answered,
        wall_s=wall,
        cpu_ms=cpu,
        rss_mb=meter.memory(),
        peak_in_flight=stats.get("peak_in_flight", 0),
    )
