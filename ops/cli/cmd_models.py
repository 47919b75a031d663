"""``pointsman models``: each model's configuration, and its limits and load at this moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from ops.cli.arguments import AsJson
from ops.cli.environment import load_config, open_ledger
from ops.cli.render import note, print_json, print_table, seconds

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.models import Model
    from tasks.ledger.limiter import LimiterState
    from tasks.routing.snapshot import ModelLoad

#: Seconds that the list waits for Redis; without an answer it shows the configuration alone.
REDIS_TIMEOUT = 1.0


async def models(*, as_json: AsJson = False) -> None:
    """List the models, their prices and routes, and their limits.

    If Redis answers, breakers, calls in flight and the use of the last minute are shown, against the limits in force:
    those of the configuration, or lower ones that the provider reports. `latency` is the duration of a call (a slow
    call raises it at once, quick calls lower it gradually), `failed` the share of the latest attempts. `closed` says
    why a model gets no calls now: drained, dead (its workers are gone), breaker, budget or paused. Without Redis, only
    the configuration is shown.

        pointsman models --config pointsman.yaml
    """
    config = load_config()
    limiters, loads, remark = await _limiters(config)
    used = {name: [route for route, known in config.routes.items() if name in known.models] for name in config.models}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "provider": model.provider,
                    "model": model.model or name,
                    "capacity": model.capacity,
                    "price": model.price.model_dump(),
                    "routes": used[name],
                    "limits": {
                        "rpm": model.rpm,
                        "tpm": model.tpm,
                        "budget_usd_per_day": model.budget_usd_per_day,
                        "key": model.api_key_env,
                    },
                    "now": {**asdict(limiters[name]), **_load_of(loads[name])} if name in limiters else None,
                }
                for name, model in config.models.items()
            ]
        )
        return
    rows = [
        (name, model.provider, model.model or name, str(model.capacity), _price(model), ", ".join(used[name]) or "-")
        for name, model in config.models.items()
    ]
    head = ("model", "provider", "its name there", "capacity", "$/M in, out", "routes")
    print_table(head, rows, whole=("model", "provider"), right=("capacity", "$/M in, out"))
    if limiters:
        print()
        facts = ("model", "running", "requests/min", "tokens/min", "$ today", "latency", "failed", "breaker", "closed")
        states = [(name, *_now(model, limiters[name], loads[name])) for name, model in config.models.items()]
        print_table(facts, states, whole=("model", "closed"), right=facts[1:7])
    if remark:
        note(remark)


async def _limiters(config: Config) -> tuple[Mapping[str, LimiterState], Mapping[str, ModelLoad], str]:
    """Return limits and load of each model, and a remark; both are empty if Redis does not answer."""
    from tasks.contract.errors import PointsmanError

    try:
        async with open_ledger(tuple(config.models), timeout=REDIS_TIMEOUT) as ledger:
            snapshot = await ledger.fleet.snapshot()
            return await ledger.limiter.states(tuple(config.models)), snapshot.models, ""
    except PointsmanError as error:
        return {}, {}, f"only the configuration is shown: {error}"


def _now(model: Model, limiter: LimiterState, load: ModelLoad) -> tuple[str, ...]:
    breaker = limiter.breaker
    if limiter.breaker == "open":
        breaker += f" {limiter.opens_in_s:.0f} s ({limiter.why})"
    elif limiter.paused_s:
        breaker += f", paused {limiter.paused_s:.0f} s"
    return (
        _of(limiter.running, limiter.most),
        _of(limiter.requests, limiter.rpm),
        _of(limiter.tokens, limiter.tpm),
        _of(round(limiter.spent_usd, 4), model.budget_usd_per_day),
        seconds(load.latency_s),
        f"{load.errors:.0%}" if load.errors else "-",
        breaker,
        load.closed or "-",
    )


def _load_of(load: ModelLoad) -> dict[str, float | str | None]:
    return {
        "closed": load.closed or None,
        "latency_s": load.latency_s,
        "errors": load.errors,
        "queue_wait_s": load.queue_wait_s,
    }


def _of(used: float, most: float | None) -> str:
    return f"{used:g}" if most is None else f"{used:g}/{most:g}"


def _price(model: Model) -> str:
    price = model.price
    return f"{price.input:.2f}, {price.output:.2f}" if price.input or price.output else "free"
