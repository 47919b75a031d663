"""Strategies side by side: every one over the same requests, several seeds each, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from statistics import fmean, stdev
from typing import Any

from ops.evaluate.simulation.scenarios import Scenario
from ops.evaluate.simulation.simulated_fleet import simulate
from tasks.routing.options import is_sticky, strategies, strategy_named

#: Requests, over all runs, from which it pays to start more processes: these take a second to begin.
WORTH_A_PROCESS = 30_000
#: Figures that are none of a run, but what plots are drawn from.
_DRAWN = frozenset({"quantiles_s"})


@dataclass(frozen=True, slots=True)
class StrategyComparison:
    """`runs` are the figures of each strategy, one mapping a seed (`Record.figures`)."""

    scenario: str
    about: str
    seeds: int
    runs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def mean(self, strategy: str, figure: str) -> float | None:
        """The mean over the seeds; None where no run has the figure."""
        return _mean([run.get(figure) for run in self.runs[strategy]])

    def spread(self, strategy: str, figure: str) -> float:
        """The standard deviation over the seeds; 0 where there is one."""
        found = [value for run in self.runs[strategy] if (value := run.get(figure)) is not None]
        return stdev(found) if len(found) > 1 else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "about": self.about,
            "seeds": self.seeds,
            "strategies": {name: self._summary(name) for name in self.runs},
        }

    def _summary(self, name: str) -> dict[str, Any]:
        runs = self.runs[name]
        figures: dict[str, Any] = {}
        spread: dict[str, float] = {}
        for figure, value in runs[0].items():
            if figure in _DRAWN:
                continue
            if isinstance(value, Mapping):
                figures[figure] = {model: _mean([run[figure].get(model) for run in runs]) for model in value}
            else:
                figures[figure] = self.mean(name, figure)
                spread[figure] = self.spread(name, figure)
        return {**figures, "spread": spread}


def fitting() -> tuple[str, ...]:
    """The strategies that are installed and that models which are as good as one another suit."""
    return tuple(sorted(name for name in strategies() if not is_sticky(name)))


def compare(
    scenario: Scenario,
    name: str,
    chosen: Sequence[str],
    *,
    seeds: int = 1,
    workers: int | None = None,
    done: Callable[[str, int], None] = lambda _strategy, _seed: None,
) -> StrategyComparison:
    """Run each of `chosen` once a seed; `done` is called with each run that has ended.

    Raises:
        BadInput: if there is no such strategy.
    """
    for strategy in chosen:
        strategy_named(strategy)
    runs: dict[str, list[Mapping[str, Any]]] = {strategy: [] for strategy in chosen}
    most = workers or min(os.cpu_count() or 1, seeds * len(chosen))
    if workers is None and scenario.requests * seeds * len(chosen) < WORTH_A_PROCESS:
        most = 1
    names, numbers = [strategy for strategy in chosen for _ in range(seeds)], [*range(seeds)] * len(chosen)
    # Started afresh: a fork would take along whatever threads and sockets this process has.
    with ProcessPoolExecutor(most, mp_context=get_context("spawn")) as pool:
        found = (map if most == 1 else pool.map)(simulate, repeat(scenario), names, numbers)
        for strategy, seed, figures in zip(names, numbers, found, strict=True):
            runs[strategy].append(figures)
            done(strategy, seed)
    return StrategyComparison(name, scenario.about, seeds, runs)


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return fmean(found) if found else None
