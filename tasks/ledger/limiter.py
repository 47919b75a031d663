"""The limits of the fleet (`limiter.lua`): what an attempt takes before it starts, and reports when it has ended.

Taken are a place among the calls in flight of the model and of its key, requests and tokens a minute of both, money of
the model's day, and the breaker's leave. It is one step, so no two workers take the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.contract.result import Usage
from tasks.ledger.fleet import LEASE
from tasks.ledger.store import Script, Store, Words
from tasks.routing.model_statistics import Outcome

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.models import Model, Price
    from tasks.contract.errors import ModelError
    from tasks.contract.rate_limits import RateLimits

__all__ = [
    "LIMITER",
    "Demand",
    "LimiterState",
    "Grant",
    "Limiter",
    "Outcome",
    "Denied",
    "read_grant",
    "find_pause",
    "find_minute_limit",
]

LIMITER = Script("limiter.lua")

#: Seconds: a call that may start within them is granted now and waits in its slot, so that its start is exact.
HORIZON = 2.0
#: Seconds: the window of rpm and tpm.
MINUTE = 60.0
#: Seconds that a provider may have a model left alone: a header with a year in it must not cost the year.
LONGEST_PAUSE = 86_400.0

_PREFIX = "pm:{fleet}:"


@dataclass(frozen=True, slots=True)
class Demand:
    """What one attempt wants to take. `id` is unlike any other's; tokens are estimates."""

    id: str
    model: str
    input_tokens: int
    #: At most; None where nothing bounds the answer: then the mean of the model's answers counts.
    output_tokens: int | None
    price: Price
    #: A hedge is paid from what the calls of this model have earned.
    payer: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """An attempt may start `wait_s` seconds from now. Its lease lapses unless it is kept; it is freed by a report."""

    id: str
    model: str
    key: str
    wait_s: float
    #: What was booked; `day` is that of the money.
    tokens: int
    cost_usd: float
    day: str
    #: The one attempt that a half-open breaker let through.
    probe: bool
    mean_output: float
    #: Requests and tokens that were granted for this model up to and with this one.
    number: int = 0
    tokens_so_far: float = 0.0


@dataclass(frozen=True, slots=True)
class Denied:
    """An attempt may not start now.

    `reason` is one of breaker, budget, paused, capacity, key, rpm, tpm, hedges and job_budget. `wait_s` are the seconds
    until another try makes sense, 0 where they are unknown.
    """

    reason: str
    wait_s: float = 0.0
    mean_output: float = 0.0
    #: Where the job's budget is too small: about what the call would cost, and what is left.
    cost_usd: float = 0.0
    left_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class LimiterState:
    """Where a model or a key stands now. Rates are those of the last minute, `spent_usd` is of this day (UTC)."""

    running: int
    most: int | None
    #: closed, open or half-open; empty for a key.
    breaker: str
    opens_in_s: float
    why: str
    paused_s: float
    requests: int
    tokens: int
    spent_usd: float
    #: The limits that are in force: what is configured, or what the provider says where that is less.
    rpm: int | None
    tpm: int | None


class Limiter:
    """Methods that end in -ing return a command, to be sent along with others."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def configure(self, config: Config, *, window: float = MINUTE) -> None:
        """Tell the fleet the limits of the configuration: the newest wins. `window` is for tests."""
        commands = [_configure(f"model:{name}", _of_model(model, window)) for name, model in config.models.items()]
        commands += [
            _configure(f"key:{name}", {**key.model_dump(exclude_none=True), "window": int(window * 1e6)})
            for name, key in config.keys.items()
        ]
        # A key that has no limits any more keeps none.
        named = {model.api_key_env for model in config.models.values() if model.api_key_env} - set(config.keys)
        commands += [_configure(f"key:{name}", {}) for name in named]
        await self._store.run(*commands)

    def acquire_command(self, demand: Demand, *, horizon: float = HORIZON) -> Words:
        """The command that takes what one attempt needs; `read_grant` reads its reply."""
        return _step(
            "acquire",
            demand.id,
            demand.model,
            demand.payer,
            demand.input_tokens,
            "" if demand.output_tokens is None else demand.output_tokens,
            # USD for a million tokens are µ$ for one.
            demand.price.input,
            demand.price.output,
            int(LEASE * 1000),
            int(horizon * 1000),
        )

    async def acquire(self, demand: Demand, *, horizon: float = HORIZON) -> Grant | Denied:
        (reply,) = await self._store.run(self.acquire_command(demand, horizon=horizon))
        return read_grant(demand, reply)

    def release_command(
        self,
        grant: Grant,
        outcome: Outcome,
        *,
        usage: Usage | None = None,
        cost_usd: float = 0.0,
        pause_s: float = 0.0,
        why: str = "",
        took_s: float | None = None,
        waited_s: float | None = None,
        rate_limits: RateLimits | None = None,
    ) -> Words:
        """The command that frees what `grant` took and tells how it went; sent twice it counts once.

        `rate_limits` is what the provider's headers say: it tightens the limits of the fleet, and never loosens them.
        `took_s` is how long the attempt lasted, `waited_s` how long its call stood in the model's queue: what routing
        knows of a model's latency (`tasks.routing.model_statistics`) comes from there.

        Without `usage`, a failed attempt has used nothing, and one that was broken off all that was booked.
        """
        used, spent = 0, 0.0
        if usage is not None:
            used, spent = usage.input_tokens + usage.output_tokens, cost_usd
        if outcome == "cancelled" or (outcome == "ok" and not used):
            used, spent = grant.tokens, max(grant.cost_usd if outcome == "cancelled" else 0.0, spent)
        return _step(
            "release",
            grant.id,
            grant.model,
            grant.key,
            outcome,
            grant.tokens,
            used,
            grant.cost_usd * 1e6,
            spent * 1e6,
            grant.day,
            int(min(max(pause_s, 0.0), LONGEST_PAUSE) * 1000),
            usage.output_tokens if usage is not None and outcome == "ok" and usage.output_tokens else "",
            why,
            "" if took_s is None else round(took_s * 1000, 1),
            "" if waited_s is None else round(waited_s * 1000, 1),
            *(_heard(grant, rate_limits) if rate_limits is not None else ()),
        )

    def renew_commands(self, grants: Iterable[Grant], *, seconds: float = LEASE) -> list[Words]:
        """The commands that renew the leases of these attempts, for `seconds` from now."""
        return [
            _step("renew", model, key, int(seconds * 1000), *ids) for (model, key), ids in _by_limiter(grants).items()
        ]

    def forget_commands(self, grants: Iterable[Grant]) -> list[Words]:
        """The commands that forget leases without a report."""
        return [_step("forget", model, key, *ids) for (model, key), ids in _by_limiter(grants).items()]

    async def states(self, models: Sequence[str], keys: Sequence[str] = ()) -> dict[str, LimiterState]:
        """Where each model and each key stands, by name."""
        if not models and not keys:
            return {}
        names = [f"model:{name}" for name in models] + [f"key:{name}" for name in keys]
        (reply,) = await self._store.run(_step("states", *names))
        rows = [reply[place : place + 11] for place in range(0, len(reply), 11)]
        return {
            name: LimiterState(
                running=int(running),
                most=int(most) if most != "" else None,
                breaker=breaker,
                opens_in_s=float(opens) / 1000,
                why=why,
                paused_s=float(paused) / 1000,
                requests=int(requests),
                tokens=int(tokens),
                spent_usd=float(usd) / 1e6,
                rpm=int(rpm) if rpm != "" else None,
                tpm=int(tpm) if tpm != "" else None,
            )
            for name, (running, most, breaker, opens, why, paused, requests, tokens, usd, rpm, tpm) in zip(
                [*models, *keys], rows, strict=True
            )
        }


def read_grant(demand: Demand, reply: Sequence[Any]) -> Grant | Denied:
    if reply[0] == "no":
        return Denied(str(reply[1]), int(reply[2]) / 1000, float(reply[3]))
    _, wait, tokens, cost, day, probe, key, mean, number, tokens_so_far = reply
    return Grant(
        id=demand.id,
        model=demand.model,
        key=key,
        wait_s=int(wait) / 1000,
        tokens=int(tokens),
        cost_usd=float(cost) / 1e6,
        day=str(day),
        probe=bool(probe),
        mean_output=float(mean),
        number=int(number),
        tokens_so_far=float(tokens_so_far),
    )


def find_pause(error: ModelError | None, limits: RateLimits | None) -> float:
    """Seconds for which a model shall be left alone, from what its provider said; 0 where it said nothing.

    Headers that tell how long a refill takes (`limit`, `left`, `reset`) are read as an even one: with nothing left the
    next request goes after `reset` over `limit`; without a limit after the whole `reset`.
    """
    asked = getattr(error, "retry_after", None) or 0.0
    if limits is None:
        return max(0.0, asked)
    wait = max(
        _until_one(limits.requests_limit, limits.requests_left, limits.requests_reset_s),
        _until_one(limits.tokens_limit, limits.tokens_left, limits.tokens_reset_s),
    )
    return max(asked, wait)


def _until_one(limit: int | None, left: int | None, reset_s: float | None) -> float:
    if left is None or left > 0 or reset_s is None or not 0 < reset_s <= LONGEST_PAUSE:
        return 0.0
    return reset_s / limit if limit else reset_s


def find_minute_limit(limit: int | None, left: int | None, reset_s: float | None) -> int | None:
    """`limit` where it is one of a minute; None where it isn't, or where that can't be rate_limits.

    No header says how long the window of a limit is. A bucket that fills evenly is full again after the share of its
    window that was used: a window of ``reset_s * limit / (limit - left)``. Providers round resets to seconds and counts
    to thousands, so half a minute to one and a half pass for a minute. What is used too little to tell is told by a
    later answer, before it matters.
    """
    if not limit or left is None or left >= limit or reset_s is None:
        return None
    return limit if 0.5 * MINUTE <= reset_s * limit / (limit - left) <= 1.5 * MINUTE else None


def _heard(grant: Grant, rate_limits: RateLimits) -> tuple[int | float | str, ...]:
    """The end of a report: what the provider said, for calls that are granted from now on."""
    heard: list[int | float | str] = [grant.number, grant.tokens_so_far]
    for limit, left, reset_s in (
        (rate_limits.requests_limit, rate_limits.requests_left, rate_limits.requests_reset_s),
        (rate_limits.tokens_limit, rate_limits.tokens_left, rate_limits.tokens_reset_s),
    ):
        most = find_minute_limit(limit, left, reset_s)
        # A reset with a year in it must not cost the year; one that is no number says nothing.
        known = left is not None and reset_s is not None and 0 < reset_s <= LONGEST_PAUSE
        heard += [
            most or "",
            left if known and left is not None else "",
            int(reset_s * 1000) if known and reset_s else "",
        ]
    return tuple(heard)


def _configure(limiter: str, options: Mapping[str, Any]) -> Words:
    return _step("configure", limiter, *(item for pair in options.items() for item in pair))


def _of_model(model: Model, window: float) -> dict[str, Any]:
    options = {
        "key": model.api_key_env,
        "rpm": model.rpm,
        "tpm": model.tpm,
        "window": int(window * 1e6),
        "budget": None if model.budget_usd_per_day is None else model.budget_usd_per_day * 1e6,
        "hedge": model.hedge.budget if model.hedge is not None else None,
        "error_rate": model.breaker.error_rate,
        "least": model.breaker.attempts,
        "rolling": int(model.breaker.window * 1000),
        "open_ms": int(model.breaker.open * 1000),
    }
    return {name: value for name, value in options.items() if value is not None}


def _by_limiter(grants: Iterable[Grant]) -> dict[tuple[str, str], list[str]]:
    ids: dict[tuple[str, str], list[str]] = {}
    for grant in grants:
        ids.setdefault((grant.model, grant.key), []).append(grant.id)
    return ids


def _step(step: str, *args: Any) -> Words:
    return LIMITER.command([f"{_PREFIX}configured", f"{_PREFIX}scaled"], _PREFIX, step, *args)
