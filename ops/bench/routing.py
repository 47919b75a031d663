"""Scenarios through real queues and over HTTP, beside LiteLLM's in-process Router: how long the slowest have to wait.

Requests come in an open loop, at the same moments for all. Ours go from `submit` through router, queue and worker to
the result in the ledger, one worker process a replica; a request counts from the moment it was to be submitted to the
end that the ledger notes. LiteLLM's go from its `acompletion` to its answer, with three retries. Each contestant starts
knowing nothing, over model servers that have just begun.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ops.bench.bench_fleet import ReplicaFleet, ReplicaServer
from ops.bench.meter import Meter
from ops.bench.openloop import TOO_LATE_S, arrivals, paced, summarize
from ops.bench.process import Driven, bench_folder, driven
from ops.bench.report import Figure, Report, Round
from ops.bench.rounds import Size
from ops.evaluate.simulation.scenarios import NAMED
from tasks.accept import Accepted

#: `calls` are requests a round of the scenario mixed: a minute. The others have half as many.
FULL = Size(calls=2400, rounds=2)
QUICK = Size(calls=40, rounds=1)
#: Below this number of requests only the first scenario is run, by the first contestants alone: a smoke run.
SMOKE = 200
#: Ours that the figures are made of, and one more.
OURS = ("least_latency", "prequal")
LITELLM = ("least-busy", "latency-based-routing", "simple-shuffle")
#: Results that are read at once.
CHUNK = 200
#: Requests with which LiteLLM's process is warmed up. Ours begin cold: they would learn.
WARM_UP = 20
#: Attempts after which a model could be known to fail.
FIRST = 10


@dataclass(frozen=True, slots=True)
class Played:
    """One contestant's round of one scenario: its summary, and the figures that every report has."""

    summary: dict[str, Any]
    round: Round


async def measure(size: Size) -> Report:
    smoke = size.calls < SMOKE
    scenarios = ("mixed",) if smoke else ("mixed", "fast-fail", "one-slow")
    contestants = [f"ours {strategy}" for strategy in OURS[: 1 if smoke else None]]
    contestants += [f"litellm {strategy}" for strategy in LITELLM[: 1 if smoke else None]]
    played: dict[str, dict[str, list[Played]]] = {}
    async with bench_folder() as (ends, folder):
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL"}
        peer = await ends.enter_async_context(driven("litellm", "ops.bench.peers.litellm_router", env=env))
        for place, scenario in enumerate(scenarios):
            mine = played[scenario] = {contestant: [] for contestant in contestants}
            count = size.calls if place == 0 else size.calls // 2
            for seed in range(size.rounds):
                for number, contestant in enumerate(contestants):
                    at = folder / f"{scenario}-{seed}-{number}"
                    at.mkdir()
                    mine[contestant].append(await _play(at, scenario, contestant, peer, count, seed))
    rounds = {
        f"{scenario}: {name}": [one.round for one in found]
        for scenario, by_name in played.items()
        for name, found in by_name.items()
    }
    return Report(
        "routing",
        "Requests in an open loop over replicas of which one is slow, one fails at times",
        {"requests": size.calls, "rounds": size.rounds, "rates": {name: NAMED[name].rate for name in scenarios}},
        {name: _settings(name) for name in rounds},
        rounds,
        _figures(played),
        {
            scenario: {name: [one.summary for one in found] for name, found in by_name.items()}
            for scenario, by_name in played.items()
        },
    )


def _settings(name: str) -> str:
    scenario, _, who = name.partition(": ")
    about = NAMED[scenario].about
    if who.startswith("ours"):
        return f"{about}; one worker process a replica, 3 attempts at each, task events on"
    return f"{about}; Router in process, num_retries=3, timeout=60, cooldowns as by default, uvloop"


async def _play(folder: Path, scenario: str, contestant: str, peer: Driven, count: int, seed: int) -> Played:
    who, _, strategy = contestant.partition(" ")
    async with ReplicaServer(folder, NAMED[scenario]) as server:
        if who == "ours":
            async with ReplicaFleet(folder / "fleet", server, strategy) as fleet:
                await server.restart()
                meter = Meter(fleet.pids())
                latencies, late = await _ours(fleet, NAMED[scenario].rate, count, seed)
                wall, cpu = meter.stop(count)
        else:
            order: dict[str, Any] = {"strategy": strategy, "url": server.url, "models": list(server.models)}
            order |= {"rate": NAMED[scenario].rate, "seed": seed}
            # What it loads at its first calls shall not count; what it learns of the models goes with its Router.
            await peer.run(**order, count=min(count, WARM_UP))
            await server.restart()
            meter = Meter({"litellm": peer.pid})
            answered = await peer.run(**order, count=count)
            wall, cpu = meter.stop(count)
            latencies, late = answered["latencies"], answered["late"]
        stats = await server.stats()
    attempts = {name: one["requests"] for name, one in stats.items()}
    all_ = sum(attempts.values())
    summary = summarize(latencies, late) | {
        "attempts": all_,
        "share_of_attempts": {name: n / all_ for name, n in attempts.items()},
        "share_after_first_10": {name: max(0, n - FIRST) / max(1, all_ - FIRST) for name, n in attempts.items()},
    }
    one = Round(
        calls=count,
        answered=count - summary["failed"],
        wall_s=wall,
        cpu_ms=cpu,
        peak_in_flight=sum(one["peak_in_flight"] for one in stats.values()),
    )
    return Played(summary, one)


async def _ours(fleet: ReplicaFleet, rate: float, count: int, seed: int) -> tuple[list[float | None], list[float]]:
    """Submit when it is time, then read from the ledger how each has ended; and how late each was submitted."""
    loop = asyncio.get_running_loop()

    async def submit(number: int, due: float) -> tuple[str, float]:
        came = time.time() - (loop.time() - due)
        accepted: Accepted = await fleet.producer.submit({"text": f"request {seed} {number}"})
        return accepted.id, came

    sent: list[tuple[str, float]]
    sent, late = await paced(arrivals(rate, count, seed), submit)
    await fleet.wait([job for job, _ in sent])
    latencies: list[float | None] = []
    for start in range(0, len(sent), CHUNK):
        chunk = sent[start : start + CHUNK]
        results = await asyncio.gather(*(fleet.producer.result(job) for job, _ in chunk))
        for (_, came), result in zip(chunk, results, strict=True):
            good = result.state == "succeeded" and result.ended_at is not None
            latencies.append(result.ended_at - came if good and result.ended_at is not None else None)
    return latencies, late


def _figures(played: dict[str, dict[str, list[Played]]]) -> list[Figure]:
    def each(scenario: str, name: str, figure: str) -> list[float]:
        return [one.summary[figure] for one in played[scenario][name]]

    ours = f"ours {OURS[0]}"
    mixed = played["mixed"]
    peers: Sequence[str] = [name for name in mixed if name.startswith("litellm")]
    best = [min(one) for one in zip(*(each("mixed", name, "p99_s") for name in peers), strict=True)]
    p99 = each("mixed", ours, "p99_s")
    ratios = [theirs / mine for theirs, mine in zip(best, p99, strict=True)]
    failed = [found.summary["failed"] for by_name in played.values() for found in by_name[ours]]
    figures = [
        Figure("p99 of LiteLLM's best over ours, mixed", fmean(ratios), must=3, goal=6, rounds=ratios),
        Figure("p99 of ours, mixed", fmean(p99), unit="s", rounds=p99, higher=False),
        Figure("jobs that did not succeed", sum(failed), unit="jobs", must=0, goal=0, higher=False),
    ]
    # A machine that is too busy for the peer makes a comparison worthless: this one must be known.
    late = [one.summary["late_p99_s"] for by_name in played.values() for found in by_name.values() for one in found]
    figures.append(
        Figure("requests begun late, p99 of the worst round", max(late), unit="s", must=TOO_LATE_S, higher=False)
    )
    for scenario, by_name in played.items():
        for name in by_name:
            if (scenario, name) != ("mixed", ours):
                rounds = each(scenario, name, "p99_s")
                figures.append(
                    Figure(f"p99 of {name}, {scenario}", fmean(rounds), unit="s", rounds=rounds, higher=False)
                )
            if not name.startswith("ours"):
                lost = [float(count) for count in each(scenario, name, "failed")]
                figures.append(Figure(f"failed of {name}, {scenario}", sum(lost), unit="requests", higher=False))
    if "fast-fail" in played:
        shares = [one.summary["share_after_first_10"]["failing"] * 100 for one in played["fast-fail"][ours]]
        figures.append(
            Figure(
                "attempts sent to the replica that fails fast", fmean(shares),
                unit="%", must=2, goal=0.5, rounds=shares, higher=False,
            )
        )  # fmt: skip
    if "one-slow" in played:
        slow = [share * 100 for share in each("one-slow", ours, "over_1s")]
        figures.append(
            Figure("over 1 s, one replica slow", fmean(slow), unit="%", must=0.2, goal=0.05, rounds=slow, higher=False)
        )
    return figures
