"""Draw and summarize every named scenario: what `docs/explanation/strategies-measured.md` shows.

``python -m ops.evaluate.simulation --out docs/explanation/strategies-measured`` writes a picture a scenario and
``figures.json``, and prints the tables in Markdown. ``--quick`` is a smoke run; ``large`` runs when it is named.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean

from ops.evaluate.simulation.compare import StrategyComparison, compare, fitting
from ops.evaluate.simulation.scenarios import NAMED

#: Runs of each strategy in each scenario.
SEEDS = 3
#: Takes minutes for each strategy: a million requests.
LARGE = "large"
#: Requests of a smoke run.
SMOKE = 300

#: Columns: what stands above, the figure, by how much it is multiplied, digits.
_COLUMNS = (
    ("p50 s", "p50_s", 1.0, 3),
    ("p99 s", "p99_s", 1.0, 3),
    ("p99.9 s", "p999_s", 1.0, 3),
    ("over 1 s, %", "over_1s", 100.0, 3),
    ("failed", "failed", 1.0, 1),
    ("crest", "crest", 1.0, 2),
    ("same model, %", "same_model", 100.0, 1),
    ("share after, s", "share_after_s", 1.0, 1),
)
#: Models of the scenarios whose attempts after their first ten are counted.
_ODD = ("slow", "failing")


def table(found: StrategyComparison) -> str:
    """The comparison in Markdown, the shortest tail first."""
    runs = next(iter(found.runs.values()))
    columns = [column for column in _COLUMNS if column[1] in runs[0]]
    odd = [model for model in _ODD if model in runs[0]["share_after_first_10"]]
    heads = [column[0] for column in columns] + [f"{model}, % of attempts" for model in odd]
    lines = [f"| strategy | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in sorted(found.runs, key=lambda name: found.mean(name, "p99_s") or 0.0):
        cells = []
        for _, figure, times, digits in columns:
            mean, spread = found.mean(name, figure), found.spread(name, figure)
            shown = "–" if mean is None else f"{mean * times:.{digits}f}"
            cells.append(shown + (f" ± {spread * times:.{digits}f}" if mean is not None and found.seeds > 1 else ""))
        cells += [f"{100 * fmean(run['share_after_first_10'][model] for run in found.runs[name]):.2f}" for model in odd]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.evaluate.simulation", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and figures.json")
    parser.add_argument("--scenario", action="append", choices=list(NAMED), help="may be repeated; by default most")
    parser.add_argument("--strategy", action="append", help="may be repeated; by default all that fit")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures mean nothing")
    options = parser.parse_args(arguments)
    from ops.evaluate.plots import draw_strategies

    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "figures.json"
    figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in options.scenario or [name for name in NAMED if name != LARGE]:
        scenario = NAMED[name]
        if options.quick:
            scenario = scenario.model_copy(update={"requests": SMOKE})
        found = compare(scenario, name, options.strategy or fitting(), seeds=options.seeds)
        draw_strategies(found, options.out / f"{name}.svg")
        print(f"\n## {name}\n\n{scenario.about}\n\n{table(found)}", flush=True)
        figures[name] = found.as_json()
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
