"""``GET /``: one page for people, drawn on the server, with the state of each pool and the routes that lead there.

The page loads nothing and runs no script. It shows names and counts, never a prompt or an output.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from producer.api.http_request import time_limit
from producer.client import AsyncProducer
from tasks.config.config import Config
from tasks.contract.errors import Unreachable
from tasks.queue.app import depth, model_queue

#: Seconds until the page reloads itself.
REFRESH = 5
#: Seconds that Redis has to return the counts; after that the page is drawn without them.
COUNTS_WITHIN = 2.0

FLOWER_URL = "POINTSMAN_FLOWER_URL"

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_PAGE = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined).from_string(
    files("producer.api").joinpath("console.html").read_text(encoding="utf-8")
)

#: Why a closed model gets no calls.
_CLOSED_BECAUSE = {
    "breaker": "its breaker opened after failures",
    "budget": "its budget of the day is used up",
    "dead": "its workers are gone",
    "drained": "an operator has drained it",
    "paused": "its provider asked for a pause",
}


@dataclass(frozen=True, slots=True)
class PoolRow:
    """The state of one model's pool; counts are calls."""

    model: str
    capacity: int
    #: In the model's queue, taken by no worker yet.
    queued: int
    #: With a worker: running, or reserved to run next.
    running: int
    #: Not admitted yet; a call that waits for several models is counted at each.
    waiting: int
    simulated: bool
    #: Why it gets no calls; "" where it is open.
    closed: str = ""
    #: Seconds that a call takes, as a peak-sensitive average; None before the first.
    latency_s: float | None = None
    #: Share of the latest attempts that failed.
    errors: float = 0.0


class Console:
    def __init__(self, producer: AsyncProducer) -> None:
        self._producer = producer

    async def page(self, _request: Request) -> Response:
        """200, or 503 when Redis does not answer: also then the page is drawn, and reloads itself."""
        config = self._producer.config
        flower = os.environ.get(FLOWER_URL, "")
        pools = None
        with suppress(Unreachable):
            async with time_limit(COUNTS_WITHIN):
                pools = await self._pools()
        page = draw(pools, config, flower=flower)
        return Response(page, 503 if pools is None else 200, headers=_HEADERS, media_type="text/html")

    async def _pools(self) -> list[PoolRow]:
        ledger, models = self._producer.ledger, self._producer.config.models
        snapshot = await ledger.fleet.snapshot()
        depths = await asyncio.gather(*(depth(ledger.store, model_queue(name)) for name in models))
        return [
            PoolRow(
                name,
                load.capacity,
                queued,
                running=max(0, load.singles + load.parts - queued),
                waiting=load.waiting,
                simulated=model.provider == "simulated",
                closed=load.closed,
                latency_s=load.latency_s,
                errors=load.errors,
            )
            for (name, model), queued in zip(models.items(), depths, strict=True)
            for load in (snapshot.models[name],)
        ]


def draw(pools: Sequence[PoolRow] | None, config: Config, *, flower: str = "") -> str:
    """The page; `pools` is None when Redis does not answer."""
    shown = flower if flower.startswith(("http://", "https://")) else ""
    return _PAGE.render(
        refresh=REFRESH,
        pools=pools,
        config=config,
        flower=shown,
        closed_because=_CLOSED_BECAUSE,
        latency=_format_latency,
    )


def _format_latency(seconds: float) -> str:
    return f"{1000 * seconds:.0f}\N{NO-BREAK SPACE}ms" if seconds < 1 else f"{seconds:.1f}\N{NO-BREAK SPACE}s"
