"""``pointsman pools``: the workers of each model, their load, and the number of calls they may make at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ops.cli.arguments import AsJson, ModelName
from ops.cli.commands import command, group
from ops.cli.environment import find_workers, load_config, open_ledger, workers_of
from ops.cli.exits import Failure
from ops.cli.render import note, print_json, print_table

app = typer.Typer(rich_markup_mode=None)


async def pools(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the pool of each model, scale one, or drain one.

    Of single jobs, `calls` counts those queued or running, and `waiting` those that this model may take, alone or among
    others. Parts of fan-outs are counted apart. `workers` are processes, with the calls they can run at once. `closed`
    says why a model gets no calls now: drained, dead (its workers are gone), breaker, budget or paused.

        pointsman pools
    """
    if context.invoked_subcommand is not None:
        return
    from tasks.queue.address import redis_url

    config = load_config()
    async with open_ledger(tuple(config.models)) as ledger:
        snapshot, drained = await ledger.fleet.snapshot(), await ledger.fleet.drained()
        serving = await ledger.fleet.serving()
        workers = await find_workers(redis_url())
    pools = [
        _describe_pool(name, model.capacity, snapshot.models[name], workers, drained)
        for name, model in config.models.items()
    ]
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
            _closed(pool),
        )
        for pool in pools
    ]
    head = ("model", "capacity", "calls", "parts", "waiting", "workers", "closed")
    print_table(head, rows, whole=("model", "workers", "closed"), right=("calls", "parts", "waiting"))
    for pool in pools:
        if not pool["workers"] and not serving.get(pool["model"]):
            note(f"{pool['model']} has no worker: start `celery -A worker worker -Q model.{pool['model']}`")


async def scale(
    model: ModelName,
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
    if reset == (capacity is not None):
        raise Failure(
            "usage", "either N or --reset is needed", field="capacity", remedy=f"pointsman pools scale {model} 8"
        )
    config = _config_with(model)
    configured = config.models[model].capacity
    async with open_ledger(tuple(config.models)) as ledger:
        await ledger.fleet.scale(model, capacity)
    if as_json:
        print_json({"model": model, "capacity": configured if capacity is None else capacity, "configured": configured})
    elif capacity is None:
        print(f"{model}: capacity {configured}, as configured")
    else:
        print(f"{model}: capacity {capacity} (configured: {configured})")


async def drain(
    model: ModelName,
    *,
    move: Annotated[bool, typer.Option("--move", help="Move its queued calls to other candidates.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Let the model take calls again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a model take no new calls, until --reset.

    Its workers finish the queued calls; with --move the calls go to other models of their route, if there are any.
    Running calls are never interrupted. Jobs that only this model may do wait.

        pointsman pools drain fast --move
        pointsman pools drain fast --reset
    """
    if move and reset:
        raise Failure(
            "usage", "--move and --reset exclude each other", field="move", remedy=f"pointsman pools drain {model}"
        )
    config = _config_with(model)
    async with open_ledger(tuple(config.models)) as ledger:
        await ledger.fleet.drain(model, on=not reset, move=move)
        snapshot = await ledger.fleet.snapshot()
    load = snapshot.models[model]
    alone = [] if reset else _routes_without_another(config, model, snapshot)
    if as_json:
        answer = {"model": model, "drained": not reset, "move": move, "closed": load.closed or None}
        print_json({**answer, "calls": load.singles, "parts": load.parts, "routes_that_wait": alone})
        return
    if reset:
        print(f"{model}: takes calls again" + (f", but is closed: {load.closed}" if load.closed else ""))
        return
    queued = "queued calls go to other models" if move else "queued calls are still made"
    print(f"{model}: takes no new calls; {queued} ({load.pending} queued or running)")
    if alone:
        note(f"jobs of {', '.join(alone)} wait: no other model of theirs is open")
    note(f"jobs that name {model} wait until `pointsman pools drain {model} --reset`")


def _routes_without_another(config: Any, model: str, snapshot: Any) -> list[str]:
    """Return the routes without another model that takes calls."""
    loads = snapshot.models
    return [
        name
        for name, route in config.routes.items()
        if model in route.models and all(other == model or loads[other].closed for other in route.models)
    ]


def _config_with(model: str) -> Any:
    """Return the configuration; raise `Failure` if it has no such model."""
    config = load_config()
    if model not in config.models:
        known = ", ".join(sorted(config.models))
        raise Failure("bad_input", f"model: {model!r} is not known", field="model", remedy=f"allowed: {known}")
    return config


def _describe_pool(
    name: str, configured: int, load: Any, workers: list[Any], drained: Mapping[str, bool]
) -> dict[str, Any]:
    from tasks.queue.app import model_queue

    mine = workers_of(model_queue(name), workers)
    return {
        "model": name,
        "capacity": load.capacity,
        "configured": configured,
        "singles": load.singles,
        "parts": load.parts,
        "waiting": load.waiting,
        "closed": load.closed or None,
        "drained": name in drained,
        "moves": drained.get(name, False),
        "workers": [{"name": worker.name, "slots": worker.slots} for worker in mine],
    }


def _capacity(pool: dict[str, Any]) -> str:
    """Return the capacity in force. It differs from the configured one after `scale`, or before workers start."""
    if pool["capacity"] == pool["configured"]:
        return str(pool["capacity"])
    return f"{pool['capacity']} (configured: {pool['configured']})"


def _closed(pool: dict[str, Any]) -> str:
    """Return why the model gets no calls; that it is drained is shown beside other reasons."""
    words = [pool["closed"] or ""]
    if pool["drained"]:
        words = [word for word in words if word not in {"", "drained"}]
        words.append("drained, queue moves" if pool["moves"] else "drained")
    return ", ".join(words) or "-"


def _workers(pool: dict[str, Any]) -> str:
    slots = sum(worker["slots"] or 0 for worker in pool["workers"])
    return f"{len(pool['workers'])} ({slots} slots)" if slots else str(len(pool["workers"]))


group(app, pools)
command(app, scale)
command(app, drain)
