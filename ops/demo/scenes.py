"""The demo: a stack of its own, and four scenes with jobs on it. Afterwards nothing is left running."""

from __future__ import annotations

import time
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.up.stack import Options, Stack
from producer import Producer, Result

#: Seconds that one job of the demo may take; the review on the local model takes longest.
JOB_TIMEOUT = 110.0

MESSAGES = (
    "I was charged twice for March, please refund one of them.",
    "The app shows an error and closes when I open a large file.",
    "What would the upgrade to the team plan cost for 20 people?",
    "Where can I find the invoice of last month?",
    "My laptop and phone do not synchronise any more.",
    "Do you have a free trial for schools?",
    "The screen is black after the update.",
    "My card was declined although there is money on it.",
    "We would like to buy 50 licences; is there a discount?",
    "Who founded your company?",
    "It crashes every time I export to PDF.",
    "Thanks, everything works again!",
)
QUESTION = "Which team: 'The screen stays black.' billing or technical?"
#: With examples: a model this small does not follow the instruction alone.
BALLOT = (
    {"role": "system", "content": "Answer with one word."},
    {"role": "user", "content": "Which team: 'My card was charged twice.' billing or technical?"},
    {"role": "assistant", "content": "billing"},
    {"role": "user", "content": "Which team: 'The app crashes at start.' billing or technical?"},
    {"role": "assistant", "content": "technical"},
    {"role": "user", "content": "Which team: 'I need a copy of my invoice.' billing or technical?"},
    {"role": "assistant", "content": "billing"},
    {"role": "user", "content": QUESTION},
)
REVIEW_PROMPT = "You review contracts. Say in one short sentence what this clause permits or demands."
PARALLEL_SECTIONS = 24


def play(folder: Path, console: Console) -> dict[str, Any]:
    """Start a stack with its state in `folder`, play the scenes on `console`, stop it; return the figures."""
    config = Path(str(files("ops.demo").joinpath("pointsman.yaml")))
    started = time.monotonic()
    console.print("[bold]Pointsman demo[/]: a broker, a router, five pools of workers, one real small model.")
    console.print("[dim]The model has 135 million parameters: it shows how a job runs; its answers are often wrong.[/]")
    stack = Stack(Options(config=config, state_dir=folder, port=None, flower_port=None))
    with stack.stopped_by_signals(), stack, Producer(stack.config, redis=stack.redis) as producer:
        console.print(f"{len(stack.children)} processes answer after {time.monotonic() - started:.1f} s.\n")
        steps = {
            "review": _review(producer, console),
            "vote": _vote(producer, console),
            "routing": _routing(producer, console),
            "parallel": _parallel(producer, console),
        }
    console.print(f"Everything is stopped. The demo took {time.monotonic() - started:.0f} s.")
    return {"ok": all(step["ok"] for step in steps.values()), "seconds": round(time.monotonic() - started, 1), **steps}


def _review(producer: Producer, console: Console) -> dict[str, Any]:
    console.rule("[bold]1[/]  A licence, reviewed clause by clause, in parallel [dim](local model)[/]", align="left")
    job = {
        "kind": "sections", "split": "numbered", "text": _licence_text(), "model": "smollm2",
        "prompt": REVIEW_PROMPT, "max_tokens": 48, "temperature": 0.0, "policy": "partial",
    }  # fmt: skip
    result, wall = _run_job(producer, job)
    table = _table("clause", "the model's summary", "s")
    for part in result.parts:
        table.add_row(part.title, _one_line(part.output or part.error or part.state), f"{part.latency_s or 0:.1f}")
    console.print(table)
    return _sum_up(console, result, wall)


def _vote(producer: Producer, console: Console) -> dict[str, Any]:
    console.rule("[bold]2[/]  A vote of five [dim](local model, one seed a vote)[/]", align="left")
    job = {
        "kind": "vote", "n": 5, "messages": BALLOT, "model": "smollm2", "early_stop": "off",
        "temperature": 0.8, "max_tokens": 3, "policy": "partial",
    }  # fmt: skip
    result, wall = _run_job(producer, job)
    console.print(f"[dim]{QUESTION}[/]")
    console.print("votes: " + ", ".join(repr(_one_line(part.output or part.state)) for part in result.parts))
    details = result.details
    console.print(
        f"majority: [bold]{_one_line(result.output or '-')}[/] with {details.get('votes')} of {details.get('total')}"
    )
    return _sum_up(console, result, wall)


def _routing(producer: Producer, console: Console) -> dict[str, Any]:
    console.rule("[bold]3[/]  Support messages, each to the model of its route [dim](simulated)[/]", align="left")
    started = time.monotonic()
    jobs = producer.submit_many([{"text": message} for message in MESSAGES])
    results = [producer.wait(job.id, timeout=JOB_TIMEOUT) for job in jobs]
    wall = time.monotonic() - started
    table = _table("message", "route", "decided by", "model", "s")
    for message, result in zip(MESSAGES, results, strict=True):
        routing = result.routing
        if routing is not None:
            how = routing.classifier + (f" {routing.confidence:.2f}" if routing.confidence else "")
            table.add_row(message, routing.route, how, _models_of(result), f"{result.parts[0].latency_s or 0:.2f}")
    console.print(table)
    total = sum(part.latency_s or 0 for result in results for part in result.parts)
    cost = sum(result.cost_usd for result in results)
    console.print(
        f"{len(results)} jobs in {wall:.1f} s; their calls took {total:.1f} s; "
        f"cost {cost:.6f} USD [dim](simulated)[/]\n"
    )
    return {
        "ok": all(result.state == "succeeded" for result in results),
        "wall_s": round(wall, 2),
        "routes": {
            message: result.routing.route if result.routing else None
            for message, result in zip(MESSAGES, results, strict=True)
        },
    }


def _parallel(producer: Producer, console: Console) -> dict[str, Any]:
    console.rule(
        "[bold]4[/]  The time that parallel sections save [dim](simulated: one second a call)[/]", align="left"
    )
    items = [f"Section {number} of a long document." for number in range(1, PARALLEL_SECTIONS + 1)]
    result, wall = _run_job(producer, {"kind": "sections", "items": items, "model": "parallel"})
    return _sum_up(console, result, wall)


def _run_job(producer: Producer, job: dict[str, Any]) -> tuple[Result, float]:
    started = time.monotonic()
    result = producer.wait(producer.submit(job).id, timeout=JOB_TIMEOUT)
    return result, time.monotonic() - started


def _sum_up(console: Console, result: Result, wall: float) -> dict[str, Any]:
    """Print what a job came to, and return the same as figures."""
    total = sum(part.latency_s or 0 for part in result.parts)
    label = " [dim](simulated)[/]" if result.simulated else ""
    usage = result.usage
    console.print(
        f"{result.state}: {len(result.parts)} calls to {_models_of(result)} took {total:.1f} s together, "
        f"[bold]{wall:.1f} s[/] by the clock: {total / wall:.1f} times faster{label}"
    )
    if result.error:
        console.print(f"[red]{result.error}[/]")
    console.print(
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out, {result.cost_usd:.6f} USD"
        + (f"; {result.routing.strategy}: {result.routing.reason}" if result.routing else "")
        + "\n"
    )
    return {
        "ok": result.state == "succeeded",
        "state": result.state,
        "wall_s": round(wall, 2),
        "calls_s": round(total, 2),
        "parts": len(result.parts),
        "simulated": result.simulated,
        "tokens": usage.model_dump(),
        "cost_usd": result.cost_usd,
        "output": result.output,
    }


def _models_of(result: Result) -> str:
    models = sorted({part.model for part in result.parts if part.model})
    return ", ".join(models) + (" (simulated)" if result.simulated else "")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, header_style="dim", overflow="ellipsis", justify="right" if column == "s" else "left")
    return table


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _licence_text() -> str:
    """Return the licence of Pointsman, which every installation contains."""
    for file in distribution("pointsman").files or ():
        if file.name == "LICENSE":
            return Path(str(file.locate())).read_text(encoding="utf-8")
    return Path(__file__).parents[2].joinpath("LICENSE").read_text(encoding="utf-8")
