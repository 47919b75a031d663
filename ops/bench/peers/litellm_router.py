"""LiteLLM's in-process Router with two deployments of the mock model, by its manual's advice for throughput.

``least-busy``, no retries, no callbacks, no logging, no cooldowns; its own aiohttp transport; uvloop. Reads orders
from stdin.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from typing import Any

import uvloop

from ops.bench.peers.bare import REQUEST, run_calls
from ops.bench.peers.order import answer, orders

__all__ = ["main"]


def _router() -> Any:
    # By name: its sources are many, and the type checker would read them all.
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.callbacks = litellm.success_callback = litellm.failure_callback = []
    litellm.turn_off_message_logging = True
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    logging.getLogger("LiteLLM Router").setLevel(logging.ERROR)
    parameters = {"model": "openai/mock", "api_base": os.environ["BENCH_MODEL_URL"] + "/v1", "api_key": "none"}
    return litellm.Router(
        model_list=[
            {"model_name": "mock", "litellm_params": dict(parameters), "model_info": {"id": name}}
            for name in ("first", "second")
        ],
        routing_strategy="least-busy",
        num_retries=0,
        timeout=60,
        disable_cooldowns=True,
        set_verbose=False,
    )


async def _run(router: Any, calls: int, in_flight: int) -> int:
    async def one() -> str:
        reply = await router.acompletion(**REQUEST)
        return str(reply.choices[0].message.content)

    return await run_calls(calls, in_flight, one)


def main() -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # what it prints is no answer of ours
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        router = _router()
        for order in orders(out):
            answer(out, answered=runner.run(_run(router, order["calls"], order["in_flight"])))


if __name__ == "__main__":
    main()
