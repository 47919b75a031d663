"""The limits of the fleet (`limits.lua`): what an attempt takes before it starts, and reports when it has ended.

Taken are a place among the calls in flight of the model and of its key, requests and tokens a minute of both, money of
the model's day, and the breaker's leave. It is one step, so no two workers take the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tasks.contract.result import Usage
from tasks.ledger.fleet import LEASE
from tasks.ledger.store import Command, Script, Store

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.models import Model, Price
    from tasks.contract.errors import ModelError
    from tasks.contract.rate_limits import RateLimits

__all__ = [
    "LIMITS",
    "Ask",
    "Gate",
    "Grant",
    "Limits",
    "Outcome",
    "Refusal",
    "granted_of",
    "hold_of",
    "minute_limit_of",
]

LIMITS = Script("limits.lua")

#: Seconds: a call that may start within them is granted now and waits in its slot, so that its start is exact.
HORIZON = 2.0
#: Seconds: the window of rpm and tpm.
MINUTE = 60.0
#: Seconds that a provider may have a model left alone: a header with a year in it must not cost the year.
LONGEST_HOLD = 86_400.0

_PREFIX = "pm:{fleet}:"

#: How an attempt ended, as far as the limits care. fault: the model's. neutral: it refused this input alone.
#: cancelled: broken off while it ran. unasked: granted, and not sent.
Outcome: TypeAlias = Literal["ok", "fault", "unusable", "throttled", "neutral", "cancelled", "unasked"]


@dataclass(frozen=True, slots=True)
class Ask:
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
class Refusal:
    """`what` is in the way: breaker, budget, held, capacity, key, rpm, tpm or hedges. `wait_s` is 0 where unknown."""

    what: str
    wait_s: float
    mean_output: float


@dataclass(frozen=True, slots=True)
class Gate:
    """Where a model or a key stands now. Rates are those of the last minute, `spent_usd` is of this day (UTC)."""

    running: int
    most: int | None
    #: closed, open or half-open; empty for a key.
    breaker: str
    opens_in_s: float
    why: str
    held_s: float
    requests: int
    tokens: int
    spent_usd: float
    #: The limits that are in force: what is configured, or what the provider says where that is less.
    rpm: int | None
    tpm: int | None


class Limits:
    """Methods that end in -ing return a command, to be sent along with others."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def configure(self, config: Config, *, window: float = MINUTE) -> None:
        """Tell the fleet the limits of the configuration: the newest wins. `window` is for tests."""
        commands = [_configuring(f"model:{name}", _of_model(model, window)) for name, model in config.models.items()]
        commands += [
            _configuring(f"key:{name}", {**key.model_dump(exclude_none=True), "window": int(window * 1e6)})
            for name, key in config.keys.items()
        ]
        # A key that has no limits any more keeps none.
        named = {model.api_key_env for model in config.models.values() if model.api_key_env} - set(config.keys)
        commands += [_configuring(f"key:{name}", {}) for name in named]
        await self._store.run(*commands)

    def taking(self, ask: Ask, *, horizon: float = HORIZON) -> Command:
        """The command that takes what one attempt needs; `granted_of` reads its reply."""
        return _step(
            "take",
            ask.id,
            ask.model,
            ask.payer,
            ask.input_tokens,
            "" if ask.output_tokens is None else ask.output_tokens,
            # USD for a million tokens are µ$ for one.
            ask.price.input,
            ask.price.output,
            int(LEASE * 1000),
            int(horizon * 1000),
        )

    async def take(self, ask: Ask, *, horizon: float = HORIZON) -> Grant | Refusal:
        (reply,) = await self._store.run(self.taking(ask, horizon=horizon))
        return granted_of(ask, reply)

    def reporting(
        self,
        grant: Grant,
        outcome: Outcome,
        *,
        usage: Usage | None = None,
        cost_usd: float = 0.0,
        hold_s: float = 0.0,
        why: str = "",
        took_s: float | None = None,
        waited_s: float | None = None,
        told: RateLimits | None = None,
    ) -> Command:
        """The command that frees what `grant` took and tells how it went; sent twice it counts once.

        `told` is what the provider's headers say: it tightens the limits of the fleet, and never loosens them.
        `took_s` is how long the attempt lasted, `waited_s` how long its call stood in the model's queue: what routing
        knows of a model's latency (`tasks.routing.live`) comes from there.

        Without `usage`, a failed attempt has used nothing, and one that was broken off all that was booked.
        """
        used, spent = 0, 0.0
        if usage is not None:
            used, spent = usage.input_tokens + usage.output_tokens, cost_usd
        if outcome == "cancelled" or (outcome == "ok" and not used):
            used, spent = grant.tokens, max(grant.cost_usd if outcome == "cancelled" else 0.0, spent)
        return _step(
            "report",
            grant.id,
            grant.model,
            grant.key,
            outcome,
            grant.tokens,
            used,
            grant.cost_usd * 1e6,
            spent * 1e6,
            grant.day,
            int(min(max(hold_s, 0.0), LONGEST_HOLD) * 1000),
            usage.output_tokens if usage is not None and outcome == "ok" and usage.output_tokens else "",
            why,
            "" if took_s is None else round(took_s * 1000, 1),
            "" if waited_s is None else round(waited_s * 1000, 1),
            *(_heard(grant, told) if told is not None else ()),
        )

    def keeping(self, grants: Iterable[Grant], *, seconds: float = LEASE) -> list[Command]:
        """The commands that renew the leases of these attempts, for `seconds` from now."""
        return [_step("keep", model, key, int(seconds * 1000), *ids) for (model, key), ids in _by_gate(grants).items()]

    def dropping(self, grants: Iterable[Grant]) -> list[Command]:
        """The commands that forget leases without a report."""
        return [_step("drop", model, key, *ids) for (model, key), ids in _by_gate(grants).items()]

    async def gates(self, models: Sequence[str], keys: Sequence[str] = ()) -> dict[str, Gate]:
        """Where each model and each key stands, by name."""
        if not models and not keys:
            return {}
        names = [f"model:{name}" for name in models] + [f"key:{name}" for name in keys]
        (reply,) = await self._store.run(_step("show", *names))
        rows = [reply[place : place + 11] for place in range(0, len(reply), 11)]
        return {
            name: Gate(
                running=int(running),
                most=int(most) if most != "" else None,
                breaker=breaker,
                opens_in_s=float(opens) / 1000,
                why=why,
                held_s=float(held) / 1000,
                requests=int(requests),
                tokens=int(tokens),
                spent_usd=float(usd) / 1e6,
                rpm=int(rpm) if rpm != "" else None,
                tpm=int(tpm) if tpm != "" else None,
            )
            for name, (running, most, breaker, opens, why, held, requests, tokens, usd, rpm, tpm) in zip(
                [*models, *keys], rows, strict=True
            )
        }


def granted_of(ask: Ask, reply: Sequence[Any]) -> Grant | Refusal:
    if reply[0] == "no":
        return Refusal(str(reply[1]), int(reply[2]) / 1000, float(reply[3]))
    _, wait, tokens, cost, day, probe, key, mean, number, tokens_so_far = reply
    return Grant(
        id=ask.id,
        model=ask.model,
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


def hold_of(error: ModelError | None, limits: RateLimits | None) -> float:
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
    if left is None or left > 0 or reset_s is None or not 0 < reset_s <= LONGEST_HOLD:
        return 0.0
    return reset_s / limit if limit else reset_s


def minute_limit_of(limit: int | None, left: int | None, reset_s: float | None) -> int | None:
    """`limit` where it is one of a minute; None where it isn't, or where that can't be told.

    No header says how long the window of a limit is. A bucket that fills evenly is full again after the share of its
    window that was used: a window of ``reset_s * limit / (limit - left)``. Providers round resets to seconds and counts
    to thousands, so half a minute to one and a half pass for a minute. What is used too little to tell is told by a
    later answer, before it matters.
    """
    if not limit or left is None or left >= limit or reset_s is None:
        return None
    return limit if 0.5 * MINUTE <= reset_s * limit / (limit - left) <= 1.5 * MINUTE else None


def _heard(grant: Grant, told: RateLimits) -> tuple[int | float | str, ...]:
    """The end of a report: what the provider said, for calls that are granted from now on."""
    heard: list[int | float | str] = [grant.number, grant.tokens_so_far]
    for limit, left, reset_s in (
        (told.requests_limit, told.requests_left, told.requests_reset_s),
        (told.tokens_limit, told.tokens_left, told.tokens_reset_s),
    ):
        most = minute_limit_of(limit, left, reset_s)
        # A reset with a year in it must not cost the year; one that is no number says nothing.
        known = left is not None and reset_s is not None and 0 < reset_s <= LONGEST_HOLD
        heard += [
            most or "",
            left if known and left is not None else "",
            int(reset_s * 1000) if known and reset_s else "",
        ]
    return tuple(heard)


def _configuring(gate: str, options: Mapping[str, Any]) -> Command:
    return _step("configure", gate, *(item for pair in options.items() for item in pair))


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


def _by_gate(grants: Iterable[Grant]) -> dict[tuple[str, str], list[str]]:
    ids: dict[tuple[str, str], list[str]] = {}
    for grant in grants:
        ids.setdefault((grant.model, grant.key), []).append(grant.id)
    return ids


def _step(step: str, *args: Any) -> Command:
    return LIMITS.command([f"{_PREFIX}configured", f"{_PREFIX}scaled"], _PREFIX, step, *args)
