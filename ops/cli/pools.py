"""``pointsman pools``: the workers of each model, what they have to do, and how many calls they may make at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.cli.command import AsJson, command, group

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)


async def pools(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the pool of each model, or scale one.

    Of single jobs, `calls` counts those queued or running, and `waiting` those that this model may take, alone or among
    others. Parts of fan-outs are counted apart. `workers` are processes, with the calls they can run at once.

        pointsman pools
    """
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from ops.cli.context import load_config, open_ledger
    from ops.cli.render import note, print_json, print_table
    from ops.cli.workers import ask_workers
    from tasks.queue.address import redis_url

    config = load_config()
    async with open_ledger(tuple(config.models)) as ledger:
        snapshot = await ledger.fleet.snapshot()
        workers = await asyncio.to_thread(ask_workers, redis_url())
    pools = [_pool(name, model.capacity, snapshot.models[name], workers) for name, model in config.models.items()]
    if as_json:
        print_json(pools)
        return
    rows = [
        (
            pool["model"],
            _capacity(pool),
            str(pool["singles"]),
            str(pool["parts"]),
            str(pool["waiting"]),
            _workers(pool),
        )
        for pool in pools
    ]
    head = ("model", "capacity", "calls", "parts", "waiting", "workers")
    print_table(head, rows, whole=("model", "workers"), right=("calls", "parts", "waiting"))
    for pool in pools:
        if not pool["workers"]:
            note(f"nobody works for {pool['model']}: start `celery -A worker worker -Q model.{pool['model']}`")


async def scale(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of the configuration.")],
    capacity: Annotated[int | None, typer.Argument(metavar="N", min=0, max=100_000, help="Calls in flight.")] = None,
    *,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the capacity of the configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set the capacity of a model, until --reset.

    The capacity is the number of calls in flight, over all of the model's workers; 0 pauses it.
    `pointsman up` starts and drains worker processes to match; workers of your own bound what can run.

        pointsman pools scale fast 16
        pointsman pools scale fast --reset
    """
    from ops.cli.context import load_config, open_ledger
    from ops.cli.failures import Failure
    from ops.cli.render import print_json

    if reset == (capacity is not None):
        raise Failure(
            "usage", "either N or --reset is needed", field="capacity", remedy=f"pointsman pools scale {model} 8"
        )
    config = load_config()
    if model not in config.models:
        known = ", ".join(sorted(config.models))
        raise Failure("bad_input", f"model: {model!r} is not known", field="model", remedy=f"allowed: {known}")
    configured = config.models[model].capacity
    async with open_ledger(tuple(config.models)) as ledger:
        await ledger.fleet.scale(model, capacity)
    if as_json:
        print_json({"model": model, "capacity": configured if capacity is None else capacity, "configured": configured})
    elif capacity is None:
        print(f"{model}: capacity {configured}, as configured")
    else:
        print(f"{model}: capacity {capacity} (configured: {configured})")


def _pool(name: str, configured: int, load: Any, workers: list[Any]) -> dict[str, Any]:
    from ops.cli.workers import workers_of
    from tasks.queue.app import model_queue

    mine = workers_of(model_queue(name), workers)
    return {
        "model": name,
        "capacity": load.capacity,
        "configured": configured,
        "singles": load.singles,
        "parts": load.parts,
        "waiting": load.waiting,
        "workers": [{"name": worker.name, "slots": worker.slots} for worker in mine],
    }


def _capacity(pool: dict[str, Any]) -> str:
    """The capacity that holds now. Differs from the configuration's once it was scaled, or before workers start."""
    if pool["capacity"] == pool["configured"]:
        return str(pool["capacity"])
    return f"{pool['capacity']} (configured: {pool['configured']})"


def _workers(pool: dict[str, Any]) -> str:
    slots = sum(worker["slots"] or 0 for worker in pool["workers"])
    return f"{len(pool['workers'])} ({slots} slots)" if slots else str(len(pool["workers"]))


group(app, pools)
command(app, scale)
