"""``GET /``: one page for people, drawn on the server, with the state of each pool and the routes that lead there.

The page loads nothing and runs no script. It shows names and counts, never a prompt or an output.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from producer.api.http_request import time_limit
from producer.client import AsyncProducer
from tasks.contract.errors import Unreachable
from tasks.queue.app import model_queue
from tasks.queue.lists import depth

if TYPE_CHECKING:
    from tasks.config.config import Config

__all__ = ["Console", "PoolRow", "draw"]

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

_PAGE = Template(files("producer.api").joinpath("console.html").read_text(encoding="utf-8"))


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
        try:
            async with time_limit(COUNTS_WITHIN):
                pools = await self._pools()
        except Unreachable:
            return Response(draw(None, config, flower=flower), 503, headers=_HEADERS, media_type="text/html")
        return Response(draw(pools, config, flower=flower), headers=_HEADERS, media_type="text/html")

    async def _pools(self) -> list[PoolRow]:
        ledger, models = self._producer.ledger, self._producer.config.models
        snapshot = await ledger.fleet.snapshot()
        depths = await asyncio.gather(*(depth(ledger.store, model_queue(name)) for name in models))
        pools: list[PoolRow] = []
        for (name, model), queued in zip(models.items(), depths, strict=True):
            load = snapshot.models[name]
            running = max(0, load.singles + load.parts - queued)
            simulated = model.provider == "simulated"
            pools.append(
                PoolRow(
                    name,
                    load.capacity,
                    queued,
                    running,
                    load.waiting,
                    simulated=simulated,
                    closed=load.closed,
                    latency_s=load.latency_s,
                    errors=load.errors,
                )
            )
        return pools


def draw(pools: Sequence[PoolRow] | None, config: Config, *, flower: str = "") -> str:
    """The page; `pools` is None when Redis does not answer."""
    shown = flower if flower.startswith(("http://", "https://")) else ""
    return _PAGE.substitute(
        refresh=REFRESH,
        state='<p class="state bad">Redis does not answer</p>'
        if pools is None
        else '<p class="state">Redis answers</p>',
        flower=f'<a class="button" href="{escape(shown)}" rel="noreferrer">Flower</a>' if shown else "",
        pools="".join(map(_pool_row, pools)) if pools is not None else _no_counts(),
        routes="".join(
            _route_row(name, route.description, route.strategy, route.models, default=name == config.default_route)
            for name, route in config.routes.items()
        ),
        workflows=_workflows(config),
    )


def _pool_row(pool: PoolRow) -> str:
    label = ' <span class="tag">simulated</span>' if pool.simulated else ""
    if pool.closed:
        label += f' <span class="tag" title="{_CLOSED_BECAUSE.get(pool.closed, "")}">{escape(pool.closed)}</span>'
    share = min(100, round(100 * pool.running / pool.capacity)) if pool.capacity else 0
    figures: Mapping[str, int] = {"running": pool.running, "queued": pool.queued, "waiting": pool.waiting}
    cells = "".join(
        f'<td class="figure{"" if count else " none"}" data-name="{name}">{count:,}</td>'
        for name, count in figures.items()
    )
    capacity = (
        f"{pool.capacity:,}"
        if pool.capacity
        else '<span class="tag off" title="no worker has reported one">none</span>'
    )
    return (
        f'<tr><th scope="row">{escape(pool.model)}{label}</th>'
        f'<td class="load"><span class="bar"><i style="width:{share}%"></i></span><span>{share}%</span></td>'
        f'{cells}<td class="figure" data-name="capacity">{capacity}</td>{_recent_cells(pool)}</tr>'
    )


def _recent_cells(pool: PoolRow) -> str:
    """Cells for its latest calls: the seconds that one takes, and the share that failed."""
    took, failed = pool.latency_s, round(100 * pool.errors)
    latency = "–" if took is None else f"{1000 * took:.0f}&nbsp;ms" if took < 1 else f"{took:.1f}&nbsp;s"
    return (
        f'<td class="figure{" none" if took is None else ""}" data-name="latency">{latency}</td>'
        f'<td class="figure{"" if failed else " none"}" data-name="errors">{failed}%</td>'
    )


def _no_counts() -> str:
    return '<tr><td colspan="8" class="missing">The counts come back when Redis does. Accepted jobs are kept.</td></tr>'


def _workflows(config: Config) -> str:
    if not config.flows:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(flow.description)}</td>'
        f"<td>{escape(' → '.join(step.name for step in flow.steps))}</td></tr>"
        for name, flow in config.flows.items()
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Kind", "For", "Steps"))
    return f"<section><h2>Workflows</h2><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></section>"


def _route_row(name: str, description: str, strategy: str, models: Sequence[str], *, default: bool) -> str:
    label = ' <span class="tag">default</span>' if default else ""
    named = " ".join(f"<code>{escape(model)}</code>" for model in models)
    return (
        f'<tr><th scope="row">{escape(name)}{label}</th><td>{escape(description)}</td>'
        f"<td>{named}</td><td>{escape(strategy.replace('_', ' '))}</td></tr>"
    )
