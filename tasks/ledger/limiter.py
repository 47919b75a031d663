"""The limiter of the fleet (`limiter.lua`): what an attempt acquires before it starts, and releases when it has ended.

An attempt acquires a slot among the calls in flight of its model and of its key, requests and tokens a minute of both,
money of the model's day, and the permission of the breaker: all of it in one step, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from tasks.config.config import Config
from tasks.config.models import Model, Price
from tasks.contract.errors import ModelError
from tasks.contract.result import RateLimits, Usage
from tasks.ledger.fleet import LEASE, SNAPSHOT
from tasks.ledger.store import Command, Commands, Script, Store
from tasks.routing.model_statistics import Outcome

LIMITER = Script("limiter.lua", "model_state.lua", "budget.lua")

#: Seconds: an attempt that may start within them is granted now and waits in its slot, so that its start is exact.
HORIZON = 2.0
#: Seconds: the window of rpm and tpm.
MINUTE = 60.0
#: Seconds: the longest pause that a provider may ask for; a header with a year in it must not cost the year.
LONGEST_PAUSE = 86_400.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What one attempt needs of the limiter. Its `id` is unique; tokens are estimates."""

    id: str
    model: str
    input_tokens: int
    #: At most; None where the answer has no bound: then the mean of the model's answers counts.
    output_tokens: int | None
    price: Price
    #: The model whose calls have earned this hedge; "" for an attempt that is no hedge.
    payer: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """An attempt may start `wait_s` seconds from now. Its lease lapses unless it is renewed or released."""

    id: str
    model: str
    key: str
    wait_s: float
    #: What was booked.
    tokens: int
    cost_usd: float
    #: The one attempt that a half-open breaker let through.
    probe: bool
    mean_output: float
    #: Requests and tokens that were granted for this model up to and with this one.
    number: int = 0
    tokens_so_far: float = 0.0


@dataclass(frozen=True, slots=True)
class Denied:
    """An attempt may not start now.

    `reason` is one of breaker, budget, left, booked, dear (see `budget.lua`), paused, capacity, key, rpm, tpm, hedges,
    and of the job's own budget job_budget (it is spent) and job_booked (calls in flight have booked it). `wait_s` are
    the seconds until another try makes sense, 0 where they are unknown.
    """

    reason: str
    wait_s: float = 0.0
    mean_output: float = 0.0
    #: Where a budget is too small: about what the call would cost, and what is left of the job's.
    cost_usd: float = 0.0
    left_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, and what it used."""

    outcome: Outcome
    usage: Usage | None = None
    cost_usd: float = 0.0
    #: Seconds for which the provider asked for a pause (`find_pause`), and the code of the error.
    pause_s: float = 0.0
    why: str = ""
    #: Seconds that it lasted, and that its call stood in the model's queue: `tasks.routing.model_statistics` uses them.
    took_s: float | None = None
    waited_s: float | None = None
    #: The provider's headers: they tighten the limits of the fleet, and never loosen them.
    rate_limits: RateLimits | None = None

    def used(self, grant: Grant) -> tuple[int, float]:
        """Tokens and USD that it used.

        Without `usage` a failed attempt has used nothing, and one that was broken off all that was booked.
        """
        tokens, cost_usd = 0, 0.0
        if self.usage is not None:
            tokens, cost_usd = self.usage.input_tokens + self.usage.output_tokens, self.cost_usd
        if self.outcome == "cancelled":
            return grant.tokens, max(grant.cost_usd, cost_usd)
        return grant.tokens if self.outcome == "ok" and not tokens else tokens, cost_usd


@dataclass(frozen=True, slots=True)
class LimiterState:
    """The limiter of a model or a key. Rates are those of the last minute, `spent_usd` is of this day (UTC)."""

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
    #: The limits in force: what is configured, or what the provider says where that is lower.
    rpm: int | None
    tpm: int | None


class Limiter:
    """Each method is one step of the script, see `Command`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: By model: the fleet's mean length of answers in tokens, as in the latest reply.
        self.mean_outputs: dict[str, float] = {}

    async def configure(self, config: Config, *, window: float = MINUTE) -> None:
        """Set the limits of the configuration: the newest wins. `window` is for tests."""
        options = {f"model:{name}": _options_of(model, window) for name, model in config.models.items()}
        # A key without limits, or without limits any more, has none.
        options |= {f"key:{model.api_key_env}": {} for model in config.models.values() if model.api_key_env}
        for name, key in config.keys.items():
            options[f"key:{name}"] = {**key.model_dump(exclude_none=True), "window": int(window * 1e6)}
        await self._store.run(
            *(
                self._store.step(
                    LIMITER,
                    (),
                    "configure",
                    _read_nothing,
                    name=name,
                    rest=[item for pair in each.items() for item in pair],
                )
                for name, each in options.items()
            )
        )

    def acquire(self, demand: Demand, *, horizon: float = HORIZON) -> Command[Grant | Denied]:
        """Acquire what one attempt needs, if it may start within `horizon` seconds."""
        return self._store.step(
            LIMITER,
            (),
            "acquire",
            partial(_read_acquired, demand),
            id=demand.id,
            model=demand.model,
            payer=demand.payer,
            input=demand.input_tokens,
            most_output=demand.output_tokens,
            # USD for a million tokens are µ$ for one.
            input_price=demand.price.input,
            output_price=demand.price.output,
            lease_ms=int(LEASE * 1000),
            horizon_ms=int(horizon * 1000),
        )

    def release(self, grant: Grant, end: AttemptEnd) -> Command[str]:
        """Release what `grant` booked, settle it with what was used, and learn from the attempt.

        Returns ``ok``, or ``late`` where the lease has lapsed or was released before: then nothing is counted.
        """
        used, spent_usd = end.used(grant)
        return self._store.step(
            LIMITER,
            (),
            "release",
            str,
            id=grant.id,
            model=grant.model,
            key=grant.key,
            outcome=end.outcome,
            booked=grant.tokens,
            used=used,
            cost=grant.cost_usd * 1e6,
            spent=spent_usd * 1e6,
            # NaN is above nothing.
            pause_ms=int(min(end.pause_s, LONGEST_PAUSE) * 1000) if end.pause_s > 0 else 0,
            output=(end.usage.output_tokens or None) if end.usage is not None and end.outcome == "ok" else None,
            why=end.why,
            took_ms=None if end.took_s is None else round(end.took_s * 1000, 1),
            waited_ms=None if end.waited_s is None else round(end.waited_s * 1000, 1),
            **_headers(grant, end.rate_limits),
        )

    def renew(self, grants: Iterable[Grant], *, seconds: float = LEASE) -> Commands[None]:
        """Renew the leases of these attempts, for `seconds` from now."""
        return Commands(
            self._store.step(
                LIMITER, (), "renew", _read_nothing, model=model, key=key, lease_ms=int(seconds * 1000), rest=ids
            )
            for (model, key), ids in _by_limiter(grants).items()
        )

    def forget(self, grants: Iterable[Grant]) -> Commands[None]:
        """Forget the leases of these attempts, and count nothing."""
        return Commands(
            self._store.step(LIMITER, (), "forget", _read_nothing, model=model, key=key, rest=ids)
            for (model, key), ids in _by_limiter(grants).items()
        )

    def read_means(self, models: Sequence[str]) -> Command[dict[str, float]]:
        """The fleet's mean length of answers in tokens, by model; a model that has not answered yet is left out."""
        return self._store.step(
            SNAPSHOT,
            (),
            "means",
            lambda means: {name: float(mean) for name, mean in zip(models, means, strict=True) if mean != ""},
            rest=models,
        )

    def states(self, models: Sequence[str], keys: Sequence[str] = ()) -> Command[dict[str, LimiterState]]:
        """The state of each model's and each key's limiter, by name."""
        names = [*models, *keys]
        limiters = [f"model:{name}" for name in models] + [f"key:{name}" for name in keys]
        return self._store.step(
            SNAPSHOT, (), "limiters", lambda rows: dict(zip(names, map(_read_state, rows), strict=True)), rest=limiters
        )


def estimate_cost(demand: Demand, mean_output: float) -> float:
    """USD that an attempt is booked with: of an answer without a bound the mean length counts."""
    output = mean_output if demand.output_tokens is None else demand.output_tokens
    return (demand.input_tokens * demand.price.input + output * demand.price.output) / 1e6


def find_pause(error: ModelError | None, limits: RateLimits | None) -> float:
    """Seconds for which the provider asked for a pause, by its error and its headers; 0 where it did not.

    Headers that say how long a refill takes (`limit`, `left`, `reset`) are read as an even one: with nothing left the
    next request goes after `reset` over `limit`; without a limit after the whole `reset`.
    """
    asked = getattr(error, "retry_after", None) or 0.0
    asked = asked if asked > 0 else 0.0  # NaN is not
    if limits is None:
        return asked
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
    """`limit` where it is one of a minute; None where it isn't, or where the headers do not show it.

    No header says how long the window of a limit is. A bucket that fills evenly is full again after the share of its
    window that was used: a window of ``reset_s * limit / (limit - left)``. Providers round resets to seconds and counts
    to thousands, so half a minute to one and a half pass for a minute. Where too little was used to show the window, a
    later answer shows it, before it matters.
    """
    if not limit or left is None or left >= limit or reset_s is None:
        return None
    return limit if 0.5 * MINUTE <= reset_s * limit / (limit - left) <= 1.5 * MINUTE else None


def _headers(grant: Grant, limits: RateLimits | None) -> dict[str, Any]:
    """The arguments of a release that hold the provider's headers; they count for attempts granted after this one."""
    arguments: dict[str, Any] = {"number": None, "sum": None}
    if limits is not None:
        arguments = {"number": grant.number, "sum": grant.tokens_so_far}
    limits = limits or RateLimits()
    for kind, limit, left, reset_s in (
        ("r", limits.requests_limit, limits.requests_left, limits.requests_reset_s),
        ("t", limits.tokens_limit, limits.tokens_left, limits.tokens_reset_s),
    ):
        # A reset with a year in it must not cost the year; one that is no number says nothing.
        is_known = left is not None and reset_s is not None and 0 < reset_s <= LONGEST_PAUSE
        arguments[f"limit_{kind}"] = find_minute_limit(limit, left, reset_s)
        arguments[f"left_{kind}"] = left if is_known else None
        arguments[f"reset_{kind}"] = int(reset_s * 1000) if is_known and reset_s else None
    return arguments


def _read_acquired(demand: Demand, reply: Sequence[Any]) -> Grant | Denied:
    if reply[0] == "denied":
        _, reason, wait, mean = reply
        return Denied(str(reason), int(wait) / 1000, float(mean), cost_usd=estimate_cost(demand, float(mean)))
    _, wait, tokens, cost, probe, key, mean, number, tokens_so_far = reply
    return Grant(
        id=demand.id,
        model=demand.model,
        key=key,
        wait_s=int(wait) / 1000,
        tokens=int(tokens),
        cost_usd=float(cost) / 1e6,
        probe=bool(probe),
        mean_output=float(mean),
        number=int(number),
        tokens_so_far=float(tokens_so_far),
    )


class _StateRow(NamedTuple):
    """What `snapshot.lua` returns of a limiter; an absent value is ""."""

    running: int
    most: str | int
    breaker: str
    opens_in_ms: int
    why: str
    paused_ms: int
    requests: int
    tokens: int
    spent: str
    rpm: str | int
    tpm: str | int


def _read_state(reply: Sequence[Any]) -> LimiterState:
    row = _StateRow(*reply)
    return LimiterState(
        running=row.running,
        most=int(row.most) if row.most != "" else None,
        breaker=row.breaker,
        opens_in_s=row.opens_in_ms / 1000,
        why=row.why,
        paused_s=row.paused_ms / 1000,
        requests=row.requests,
        tokens=row.tokens,
        spent_usd=float(row.spent) / 1e6,
        rpm=int(row.rpm) if row.rpm != "" else None,
        tpm=int(row.tpm) if row.tpm != "" else None,
    )


def _read_nothing(_: Any) -> None:
    return None


def _options_of(model: Model, window: float) -> dict[str, Any]:
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
