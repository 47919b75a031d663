"""LiteLLM's in-process Router on uvloop. Reads orders from stdin: so many calls in flight, or an open loop.

An order with `in_flight` goes to two deployments of the mock model, by the manual's advice for throughput: no retries,
no callbacks, no logging, no cooldowns. An order with a `strategy` goes to the replicas of a scenario: three retries,
everything else as the manual has it, and a new Router for each order, which knows nothing yet.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import uvloop

from ops.bench.openloop import arrivals, paced
from ops.bench.peers.bare import REQUEST, run_calls
from ops.bench.process import answer, orders


def make_router(deployments: Iterable[tuple[str, str]], *, group: str, url: str, **settings: Any) -> Any:
    """Return a Router with these deployments (ids and models) of `group`; `settings` are arguments of its own."""
    # By name: its sources are many, and the type checker would read them all.
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm.Router(
        model_list=[
            {
                "model_name": group,
                "litellm_params": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none"},
                "model_info": {"id": name},
            }
            for name, model in deployments
        ],
        set_verbose=False,
        **settings,
    )


@cache
def _fast_router() -> Any:
    litellm: Any = importlib.import_module("litellm")
    litellm.callbacks = litellm.success_callback = litellm.failure_callback = []
    litellm.turn_off_message_logging = True
    return make_router(
        [("first", "mock"), ("second", "mock")], group="mock", url=os.environ["BENCH_MODEL_URL"],
        routing_strategy="least-busy", num_retries=0, timeout=60, disable_cooldowns=True,
    )  # fmt: skip


async def _run_in_flight(calls: int, in_flight: int) -> dict[str, Any]:
    router = _fast_router()

    async def one() -> str:
        reply = await router.acompletion(**REQUEST)
        return str(reply.choices[0].message.content)

    return {"answered": await run_calls(calls, in_flight, one)}


async def _run_open_loop(order: dict[str, Any]) -> dict[str, Any]:
    router = make_router(
        [(name, name) for name in order["models"]], group="replica", url=order["url"],
        routing_strategy=order["strategy"], num_retries=3, timeout=60,
    )  # fmt: skip
    loop = asyncio.get_running_loop()

    async def one(number: int, due: float) -> float | None:
        message = {"role": "user", "content": f"request {order['seed']} {number}"}
        try:
            await router.acompletion(model="replica", messages=[message])
        except Exception:  # noqa: BLE001 - whatever it raises, this request has failed; it is counted
            return None
        return loop.time() - due

    latencies, late = await paced(arrivals(order["rate"], order["count"], order["seed"]), one)
    return {"latencies": latencies, "late": late}


def main() -> None:
    sys.stdout = sys.stderr  # what it prints is no answer of ours
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for order in orders():
            run = _run_in_flight(**order) if "in_flight" in order else _run_open_loop(order)
            answer(**runner.run(run))


if __name__ == "__main__":
    main()
