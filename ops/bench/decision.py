"""What one routing decision costs over 20 models, the state read apart: each strategy, and LiteLLM's own choice.

Ours: the strategy's ranking; the model is picked from it by Lua, in the step that admits. LiteLLM's:
`Router.get_available_deployment` with ``least-busy``, its cache in memory. All in this process, in turn, CPU alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random
from typing import Any

from ops.bench.peers.litellm_router import make_router
from ops.bench.report import Figure, Report, Round
from ops.bench.rounds import Size
from tasks.routing.options import strategies, strategy_named
from tasks.routing.snapshot import ModelLoad, Request, Snapshot, Traits

FULL = Size(calls=5000, rounds=7, levels=(20,))
QUICK = Size(calls=50, rounds=1, levels=(20,))
#: States of the fleet that decisions are made on: one alone would be in every cache.
STATES = 64


async def measure(size: Size) -> Report:
    """`levels`: how many models there are."""
    (models,) = size.levels
    contestants: dict[str, Callable[[int], Any]] = {
        f"ours {name}": _ours(name, models) for name in sorted(strategies())
    }
    contestants["litellm least-busy"] = _litellm(models)
    rounds: dict[str, list[Round]] = {name: [] for name in contestants}
    for decide in contestants.values():
        _spent(decide, min(size.calls, 200))
    for _ in range(size.rounds):
        for name, decide in contestants.items():
            rounds[name].append(_spent(decide, size.calls))
    report = Report(
        "decision",
        f"One decision over {models} models, the state read apart: CPU",
        {"decisions": size.calls, "rounds": size.rounds, "models": models},
        {
            name: "get_available_deployment, in memory" if name.startswith("litellm") else "strategy over a snapshot"
            for name in contestants
        },
        rounds,
    )
    report.figures = [
        Figure(
            f"one decision of {name.removeprefix('ours ')}", report.median_of(name, _micros),
            unit="µs", must=50, goal=15, higher=False, rounds=[_micros(one) for one in rounds[name]],
        )
        for name in contestants if name.startswith("ours")
    ]  # fmt: skip
    report.figures.append(
        report.ratio("CPU of LiteLLM's choice over least_latency", "litellm least-busy", "ours least_latency", _micros)
    )
    return report


def snapshots(models: int, count: int = STATES, seed: int = 1) -> tuple[tuple[str, ...], list[Snapshot]]:
    """Names, and states in which models are about half busy, of different latency; one has just failed."""
    chance = Random(f"{seed} snapshots")  # noqa: S311 - the same states in every run
    names = tuple(f"model-{place}" for place in range(models))
    found = []
    for turn in range(count):
        failing = chance.randrange(models)
        loads = {
            name: ModelLoad(
                capacity=64,
                singles=chance.randrange(64),
                waiting=0,
                latency_s=chance.uniform(0.1, 2.0),
                seen_s=chance.uniform(0.0, 1.0),
                faults=int(place == failing),
                fault_s=0.5 if place == failing else float("inf"),
                errors=chance.uniform(0.0, 0.05),
                queue_wait_s=chance.uniform(0.0, 0.1),
                token_s=0.01,
                calls_per_s=5.0,
                tokens_per_s=500.0,
            )
            for place, name in enumerate(names)
        }
        found.append(Snapshot(turn, loads))
    return names, found


def _ours(name: str, models: int) -> Callable[[int], Any]:
    names, states = snapshots(models)
    decide = strategy_named(name)
    chance = Random(f"{name} requests")  # noqa: S311 - the same requests in every run
    traits = {
        model: Traits(
            weight=1.0 + place % 3,
            cost_usd=0.001 * (place + 1),
            scores={metric: chance.uniform(0, 100) for metric in ("speed", "accuracy", "creativity", "ethics", "cost")},
        )
        for place, model in enumerate(names)
    }
    requests = [
        Request("route", f"{chance.getrandbits(256):064x}", seed=chance.getrandbits(64), traits=traits)
        for _ in range(STATES * 8)
    ]

    def one(number: int) -> None:
        decide(requests[number % len(requests)], names, states[number % STATES])

    return one


def _litellm(models: int) -> Callable[[int], Any]:
    # Else it looks for prices on the internet, for ten seconds where there is none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    router = make_router(
        [(f"model-{place}", str(place)) for place in range(models)],
        group="replica", url="http://127.0.0.1:9", routing_strategy="least-busy",
    )  # fmt: skip
    message = [{"role": "user", "content": "some work to be done"}]

    def one(_number: int) -> None:
        router.get_available_deployment(model="replica", messages=message)

    return one


def _spent(decide: Callable[[int], Any], count: int) -> Round:
    begin, began = time.process_time(), time.perf_counter()
    for number in range(count):
        decide(number)
    cpu = time.process_time() - begin
    return Round(count, count, time.perf_counter() - began, {"decision": 1000 * cpu / count})


def _micros(one: Round) -> float:
    return 1000 * one.cpu_ms_total
