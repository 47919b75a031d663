"""`pointsman eval strategies`: every strategy over one scenario, simulated event by event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson, Plot, check_plot

if TYPE_CHECKING:
    from ops.evaluate.simulation.compare import StrategyComparison

__all__ = ["strategies"]


def strategies(
    *,
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario, or a YAML file that describes one.")
    ] = "mixed",
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", metavar="NAME", help="May be repeated; by default all but those for specialists."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Runs of each, with other chance.")] = 1,
    requests: Annotated[
        int | None, typer.Option("--requests", min=1, help="By default as many as the scenario has.")
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies over a scenario, in a simulation: no server, no model, no waiting.

    The production code decides; arrivals and answers are drawn from a seed. Scenarios: one-slow,
    fast-fail, mixed, herd, herd-late, unequal, recovery, cold-start, zipf-keys, long-answers, large (minutes).

        pointsman eval strategies --scenario one-slow --seeds 5
        pointsman eval strategies --scenario fleet.yaml --strategy least_latency --strategy prequal --json
    """
    from ops.cli.render import note, print_json
    from ops.evaluate.simulation.compare import compare, fitting
    from ops.evaluate.simulation.scenarios import read

    if plot is not None:
        check_plot(plot)
    chosen = read(scenario)
    if requests is not None:
        chosen = chosen.model_copy(update={"requests": requests})
    name = scenario if scenario.find("/") < 0 else Path(scenario).stem
    found = compare(
        chosen,
        name,
        tuple(dict.fromkeys(strategy or fitting())),
        seeds=seeds,
        done=lambda what, seed: note(f"{what}, seed {seed}"),
    )
    if plot is not None:
        from ops.evaluate.simulation.draw import draw

        draw(found, plot)
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)


def _show(found: StrategyComparison) -> None:
    from ops.cli.render import note, print_table

    def cell(name: str, figure: str, times: float = 1.0, digits: int = 3) -> str:
        mean = found.mean(name, figure)
        if mean is None:
            return "-"
        spread = found.spread(name, figure)
        return f"{mean * times:.{digits}f}" + (f"±{spread * times:.{digits}f}" if found.seeds > 1 else "")

    columns = {
        "p50 s": ("p50_s", 1.0, 3),
        "p99 s": ("p99_s", 1.0, 3),
        "p99.9 s": ("p999_s", 1.0, 3),
        "over 1 s %": ("over_1s", 100.0, 3),
        "failed": ("failed", 1.0, 1),
        "most %": ("max_share", 100.0, 1),
        "crest": ("crest", 1.0, 2),
    }
    first = next(iter(found.runs.values()))[0]
    if "same_model" in first:
        columns["same model %"] = ("same_model", 100.0, 1)
    if "share_after_s" in first:
        columns["share after s"] = ("share_after_s", 1.0, 1)
    note(found.about)
    names = sorted(found.runs, key=lambda name: (found.mean(name, "p99_s") is None, found.mean(name, "p99_s") or 0.0))
    print_table(
        ["strategy", *columns],
        [[name, *(cell(name, *what) for what in columns.values())] for name in names],
        whole=["strategy"],
        right=list(columns),
    )
