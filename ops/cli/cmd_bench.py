"""``pointsman bench``: the costs of a call, a job, a message, beside peers on the same work. See `ops.bench`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.arguments import AsJson, Plot
from ops.cli.commands import command, group
from ops.cli.render import print_json

app = typer.Typer(rich_markup_mode=None)

#: The imported distributions of the extra `bench`, as in pyproject.toml.
EXTRA = ("litellm", "matplotlib", "psutil", "taskiq", "taskiq_redis")

#: The help of each benchmark, by its name.
_HELP = {
    "calls": """
    A durable call through its queue: CPU of a model's worker, beside Celery's threads, taskiq and no queue at all.

    pointsman bench calls --rounds 5
    """,
    "noop": """
    A message without work, through a solo worker: our transport beside kombu's own.

    pointsman bench noop
    """,
    "job": """
    A whole job, from submit to its result, beside LiteLLM's in-process Router.

    pointsman bench job --level 100
    """,
    "publish": """
    Publishing a chord: our messages in pipelines beside Celery's own `apply_async`. --calls are its parts.

    pointsman bench publish
    """,
    "parts": """
    The parts of a job: CPU beside a plain call, time beside the ideal, memory. --level is the pool, then most parts.

    pointsman bench parts --level 200 --level 10000
    """,
    "flight": """
    The calls that one worker process holds at once: memory and lag of its event loop.

    pointsman bench flight --calls 5000
    """,
    "growth": """
    The cost of a call with few and many in flight, and with few and many jobs queued.

    pointsman bench growth
    """,
    "decision": """
    One routing decision over 20 models, each strategy beside LiteLLM's Router. --level is the number of models.

    pointsman bench decision
    """,
    "routing": """
    Replicas that are slow or fail, through real queues, beside LiteLLM's Router: the waits of the slowest calls.

    --calls are the requests of a round of the scenario mixed, the other two have half as many; half an hour in all.

    pointsman bench routing --rounds 1 --calls 1200
    """,
}

Quick = Annotated[bool, typer.Option("--quick", help="A smoke run of some seconds; its figures mean nothing.")]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds; each contestant plays in each.")]

Latency = Annotated[
    float | None, typer.Option("--latency", min=0.001, max=60.0, help="Seconds that a call of the mock model takes.")
]


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """The size of a benchmark; each has its own by default."""

    calls: Annotated[int | None, typer.Option("--calls", min=1, help="Calls (jobs, messages, parts) a round.")] = None
    rounds: Rounds = None
    levels: Annotated[
        list[int] | None,
        typer.Option(
            "--level", min=1, help="Calls in flight (noop: prefetch multiplier; publish: chords); may be repeated."
        ),
    ] = None
    quick: Quick = False


def bench(context: typer.Context) -> None:
    """Measure costs on this machine, from a checkout. Needs the extra `bench`.

    Each benchmark starts its servers on free ports, runs its contestants in turn, and stops everything. Figures are
    CPU, not time: they hold on a busy machine too, though a quiet one is better.

        pointsman bench calls
        pointsman bench all --out results
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def _benchmark(name: str, text: str) -> None:
    """Make the command ``pointsman bench <name>``."""

    def measure(*, size: SizeOptions, latency: Latency = None, plot: Plot = None, as_json: AsJson = False) -> None:
        _check_installed()
        from ops.bench.suite import BENCHMARKS, execute, sized

        run, full, small = BENCHMARKS[name]
        wanted = sized(
            small if size.quick else full, calls=size.calls, rounds=size.rounds, levels=size.levels, latency=latency
        )
        execute(run, wanted, as_json=as_json, plot=plot)

    measure.__doc__ = text
    command(app, measure, name)


def votes(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Answers of several solvers, JSON lines, for the weights."),
    ] = None,
    size: SizeOptions,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """The savings and losses of early stop, and the worth of weights, on votes with known answers; asks no model.

    --calls are simulated questions, --rounds random halves of the data, --level the votes at most. Each line of the
    data is an object with the right ``answer`` and ``answers`` by solver; without data the weights are left out.

    pointsman bench votes --data solvers.jsonl
    """
    _check_installed()
    from functools import partial

    from ops.bench.suite import execute, sized
    from ops.bench.votes import DATA, FULL, QUICK, measure

    wanted = sized(QUICK if size.quick else FULL, calls=size.calls, rounds=size.rounds, levels=size.levels)
    execute(partial(measure, data=data or DATA), wanted, as_json=as_json, plot=plot)


def run_all(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where JSON, plots and summary.md are written.")],
    rounds: Rounds = None,
    quick: Quick = False,
    as_json: AsJson = False,
) -> None:
    """Run all benchmarks: a JSON document and a plot each, and a summary in Markdown. Takes about an hour.

    pointsman bench all --out results
    """
    _check_installed()
    from ops.bench.suite import run_all as run_suite

    reports = run_suite(out, quick=quick, rounds=rounds, say=lambda line: print(line, file=sys.stderr))
    if as_json:
        print_json({report.benchmark: report.as_json() for report in reports})
    else:
        print((out / "summary.md").read_text(encoding="utf-8"), end="")


def _check_installed() -> None:
    """Raise `ConfigError` without the benchmarks, which an installed wheel lacks, or without their extra."""
    from importlib.util import find_spec

    from tasks.contract.errors import ConfigError

    if find_spec("ops.bench") is None:
        raise ConfigError(
            "benchmarks are not part of the installed package: run `pointsman bench` from a checkout of the repository"
        )
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"benchmarks need their extra, {', '.join(missing)} is missing: pip install 'pointsman[bench]'"
        )


group(app, bench)
for name, text in _HELP.items():
    _benchmark(name, text)
command(app, votes, "votes")
command(app, run_all, "all")
