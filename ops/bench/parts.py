"""The parts of a job: what one costs beside a plain call, how long many take beside the ideal, how much room they need.

Plain calls are single jobs that were put straight into the queue of their model: no route task on either side, so that
what a part costs more is fan-out, chord and join. The CPU of router, worker and Valkey counts, task events on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from ops.bench.bench_fleet import CHUNK, PATIENCE, TEXT, BenchFleet, MockModel
from ops.bench.meter import Meter
from ops.bench.process import bench_folder
from ops.bench.report import Figure, Report, Round
from ops.bench.rounds import Contestant, Size, play
from tasks.contract.job import CallId, Job, new_id
from tasks.contract.result import Candidate, Decision
from tasks.ledger import QUEUED_LEASE, Admitted
from tasks.queue.app import make_app
from tasks.queue.publisher import Publisher
from tasks.routing.classify.decision import Verdict

Run = Callable[[int], Awaitable[int]]

#: `levels` are the size of the pool and how many parts the largest job has.
FULL = Size(calls=1000, rounds=5, levels=(200, 10_000), latency=0.1)
QUICK = Size(calls=20, rounds=1, levels=(10, 60), latency=0.02)
#: Seconds between two looks at the memory of processes, and at the state of a job.
GLANCE = 0.02
#: Words of a section of the largest job: half a page.
WORDS = 150
MODEL = "model"
#: The same pool without a wait: what comes out is what the machine can do.
INSTANT = "instant"


async def measure(size: Size) -> Report:
    pool, most = size.levels
    async with bench_folder() as (ends, folder):
        mock = await ends.enter_async_context(MockModel(folder, latency=size.latency))
        quick = await ends.enter_async_context(MockModel(folder, latency=0.0, name="instant"))
        fleet = await ends.enter_async_context(BenchFleet(folder / "ours", mock, {MODEL: pool}))
        instant = await ends.enter_async_context(BenchFleet(folder / "instant", quick, {INSTANT: pool}))
        contestants = [
            Contestant("parts", f"one job of sections, pool of {pool}", _sections(fleet), fleet.pids(MODEL)),
            Contestant("plain", "single jobs straight in the model's queue", _straight(ends, fleet), fleet.pids(MODEL)),
            Contestant("jobs", f"single jobs, routed, pool of {pool}", _jobs(fleet), fleet.pids(MODEL)),
            Contestant("rate", "single jobs, routed, on a model that takes no time", _jobs(instant, INSTANT),
                       instant.pids(INSTANT)),
        ]  # fmt: skip
        rounds = await play(contestants, mock, calls=size.calls, rounds=size.rounds, warm_up=max(pool, size.calls // 2))
        large, memory, grown = await _large(fleet, most)
    rounds["large"] = [large]
    report = Report(
        "parts",
        f"Parts on a model that takes {size.latency * 1000:g} ms: CPU (user and system) a part",
        {"parts": size.calls, "rounds": size.rounds, "pool": pool, "largest": most, "latency_s": size.latency},
        {contestant.name: contestant.settings for contestant in contestants} | {"large": f"one job of {most} sections"},
        rounds,
        details={"largest_process_mb": memory, "broker_mb": grown},
    )
    waves = size.calls / pool * size.latency
    walls = [
        parts.wall_s / (waves + rate.calls / rate.per_s)
        for parts, rate in zip(rounds["parts"], rounds["rate"], strict=True)
    ]
    report.figures = [
        Figure(
            f"{size.calls} sections, submit to joined, over {waves:g} s and their work at the rate of single jobs",
            sorted(walls)[len(walls) // 2], must=1.5, goal=1.15, higher=False, rounds=walls,
        ),
        report.ratio(
            "CPU of a part over a plain call", "parts", "plain", lambda one: one.cpu_ms_total,
            must=1.4, goal=1.2, higher=False,
        ),
        Figure(f"largest process with {most} sections", max(memory.values()), "MB", must=200, higher=False),
        Figure(f"bytes in the broker with {most} sections", grown, "MB", must=30, higher=False),
        report.unanswered("parts that were not answered", "parts"),
    ]  # fmt: skip
    return report


def _jobs(fleet: BenchFleet, model: str = MODEL) -> Run:
    return lambda calls: fleet.run(calls, model=model)


def _sections(fleet: BenchFleet) -> Run:
    async def run_parts(count: int) -> int:
        request = {"kind": "sections", "items": [TEXT] * count, "model": MODEL}
        return await _joined(fleet, (await fleet.producer.submit(request)).id)

    return run_parts


async def _joined(fleet: BenchFleet, job: str) -> int:
    """Wait until a job of many parts has ended; returns how many of them succeeded."""
    await fleet.wait([job], within=10 * PATIENCE, glance=GLANCE / 2)
    progress = await fleet.producer.ledger.views.progress(job)
    outcomes = await fleet.producer.ledger.views.outcomes(job, 0, progress.n)
    return sum(outcome.state == "succeeded" for outcome in outcomes)


def _straight(ends: AsyncExitStack, fleet: BenchFleet) -> Run:
    """Single jobs as a router leaves them, without the router."""
    ledger = fleet.producer.ledger
    app = make_app("bench", fleet.valkey.url)
    ends.callback(app.close)
    publisher = Publisher(ledger.store, app)
    verdict = Verdict("", "explicit", 1.0, "the producer named the model")
    decision = Decision(
        route="", classifier=verdict.classifier, confidence=1.0, strategy="explicit", model=MODEL,
        reason=verdict.reason, candidates=(Candidate(model=MODEL, score=0.0),),
    )  # fmt: skip

    async def send(count: int) -> list[str]:
        jobs = [Job(id=new_id(), text=TEXT, model=MODEL) for _ in range(count)]
        await ledger.accept(jobs, keep_seconds=3600)
        await ledger.store.run(*(ledger.jobs.route(job.id, decision, placed="queued", model=MODEL) for job in jobs))
        calls = [CallId(job.id, 0) for job in jobs]
        await ledger.fleet.lease({MODEL: calls}, seconds=QUEUED_LEASE)
        await publisher.send_calls([Admitted(call, MODEL) for call in calls])
        return [job.id for job in jobs]

    async def run_calls(count: int) -> int:
        ids: list[str] = []
        for start in range(0, count, CHUNK):
            ids += await send(min(CHUNK, count - start))
        return await fleet.wait(ids)

    return run_calls


async def _large(fleet: BenchFleet, count: int) -> tuple[Round, dict[str, float], float]:
    """One large job: its round, the most memory of each process, and by how much the broker grew; both in MB."""
    redis = fleet.producer.ledger.store.redis
    before = int((await redis.info("memory"))["used_memory"])
    text = " ".join(["word"] * WORDS)
    meter = Meter(fleet.pids(MODEL))
    accepted = await fleet.producer.submit({"kind": "sections", "items": [text] * count, "model": MODEL})
    most: dict[str, float] = {}
    broker = before
    waiting = asyncio.ensure_future(_joined(fleet, accepted.id))
    while not waiting.done():
        most = {role: max(size, most.get(role, 0.0)) for role, size in meter.memory().items()}
        broker = max(broker, int((await redis.info("memory"))["used_memory"]))
        await asyncio.sleep(GLANCE)
    wall, cpu = meter.stop(count)
    found = Round(
        calls=count,
        answered=await waiting,
        wall_s=wall,
        cpu_ms=cpu,
        rss_mb=most,
    )
    return found, {role: round(size, 1) for role, size in most.items()}, (broker - before) / 1e6
