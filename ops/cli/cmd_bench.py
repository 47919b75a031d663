"""`pointsman bench …`: what a call, a job, a message costs, measured here, beside peers on the same work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.arguments import AsJson
from ops.cli.commands import command, group

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)

#: The distributions of the extra `bench` that are imported, as in pyproject.toml.
EXTRA = ("litellm", "matplotlib", "psutil", "taskiq", "taskiq_redis")

Quick = Annotated[bool, typer.Option("--quick", help="A smoke run of some seconds; its figures mean nothing.")]
Calls = Annotated[int | None, typer.Option("--calls", min=1, help="Calls (jobs, messages, parts) in a round.")]
Levels = Annotated[
    list[int] | None,
    typer.Option(
        "--level", min=1, help="Calls in flight (noop: prefetch multiplier; publish: chords); may be repeated."
    ),
]
Latency = Annotated[
    float | None, typer.Option("--latency", min=0.001, max=60.0, help="Seconds that the mock model takes.")
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw into this file, .png or .svg.")]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds; each contestant plays in each.")]


def bench(context: typer.Context) -> None:
    """Measure what things cost on this machine. Needs the extra `bench`.

    Each benchmark starts what it needs on free ports, runs its contestants in turn, and ends it all. Figures are CPU,
    not time: they hold on a busy machine too, though a quiet one is better.

        pointsman bench calls
        pointsman bench all --out results
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def _benchmark(name: str, text: str) -> None:
    """Make the command ``pointsman bench <name>``."""

    def measure(
        *,
        calls: Calls = None,
        rounds: Rounds = None,
        levels: Levels = None,
        latency: Latency = None,
        quick: Quick = False,
        plot: Plot = None,
        as_json: AsJson = False,
    ) -> None:
        _check_extra()
        from ops.bench.command import execute, sized
        from ops.bench.suite import BENCHMARKS

        run, full, small = BENCHMARKS[name]
        size = sized(small if quick else full, calls=calls, rounds=rounds, levels=levels, latency=latency)
        execute(run, size, as_json=as_json, plot=plot)

    measure.__doc__ = text
    command(app, measure, name)


def votes(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Answers of several solvers, JSON lines, for the weights."),
    ] = None,
    calls: Calls = None,
    rounds: Rounds = None,
    levels: Levels = None,
    quick: Quick = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """What early stop saves and loses, and what weights are worth: votes whose answers are known; no model is asked.

    --calls are simulated questions, --rounds random halves of the data, --level the votes at most. Each line of the
    data is an object with the right ``answer`` and ``answers`` by solver; without data the weights are left out.

    pointsman bench votes --data solvers.jsonl
    """
    _check_extra()
    from functools import partial

    from ops.bench.command import execute, sized
    from ops.bench.votes import DATA, FULL, QUICK, measure

    size = sized(QUICK if quick else FULL, calls=calls, rounds=rounds, levels=levels)
    execute(partial(measure, data=data or DATA), size, as_json=as_json, plot=plot)


def run_all(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where JSON, plots and summary.md are written.")],
    rounds: Rounds = None,
    quick: Quick = False,
    as_json: AsJson = False,
) -> None:
    """Run them all: a JSON document and a plot each, and a summary in Markdown. Takes about an hour.

    pointsman bench all --out results
    """
    _check_extra()
    from ops.bench.suite import run_all as run_suite
    from ops.cli.render import print_json

    reports = run_suite(out, quick=quick, rounds=rounds, say=lambda line: print(line, file=sys.stderr))
    if as_json:
        print_json({report.benchmark: report.as_json() for report in reports})
    else:
        print((out / "summary.md").read_text(encoding="utf-8"), end="")


def _check_extra() -> None:
    from importlib.util import find_spec

    from tasks.contract.errors import ConfigError

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"benchmarks need their extra, {', '.join(missing)} is missing: pip install 'pointsman[bench]'"
        )


group(app, bench)
_benchmark(
    "calls",
    """A durable call through its queue: CPU of a model's worker, beside Celery's threads, taskiq and no queue at all.

    pointsman bench calls --rounds 5
    """,
)
_benchmark(
    "noop",
    """A message that asks for nothing, through a solo worker: our transport beside kombu's own.

    pointsman bench noop
    """,
)
_benchmark(
    "job",
    """A whole job, from submit to its result, beside LiteLLM's in-process Router.

    pointsman bench job --level 100
    """,
)
_benchmark(
    "publish",
    """Publishing a chord: our messages in pipelines beside Celery's own `apply_async`. --calls are its parts.

    pointsman bench publish
    """,
)
_benchmark(
    "parts",
    """The parts of a job: CPU beside a plain call, time beside the ideal, memory. --level is the pool, then most parts.

    pointsman bench parts --level 200 --level 10000
    """,
)
_benchmark(
    "flight",
    """How many calls one worker process holds at once: memory and lag of its event loop.

    pointsman bench flight --calls 5000
    """,
)
_benchmark(
    "growth",
    """Whether a call costs the same with few and many in flight, with few and many jobs queued.

    pointsman bench growth
    """,
)
_benchmark(
    "decision",
    """One routing decision over 20 models, each strategy beside LiteLLM's Router. --level is the number of models.

    pointsman bench decision
    """,
)
_benchmark(
    "routing",
    """Replicas that are slow or fail, through real queues, beside LiteLLM's Router: how long the slowest wait.

    --calls are the requests of a round of the scenario mixed, the other two have half as many; half an hour in all.

    pointsman bench routing --rounds 1 --calls 1200
    """,
)
command(app, votes, "votes")
command(app, run_all, "all")
