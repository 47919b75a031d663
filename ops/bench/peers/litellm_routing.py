"""LiteLLM's in-process Router over the replicas of a scenario: three retries, everything else as its manual has it.

An order names the routing strategy; each has a Router of its own, which knows nothing yet. Reads orders from stdin.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from typing import Any

import uvloop

from ops.bench.openloop import arrivals, paced
from ops.bench.peers.order import answer, orders

__all__ = ["main", "router_of"]

#: The name under which all replicas stand.
GROUP = "replica"


def router_of(strategy: str, url: str, models: list[str], *, retries: int = 3) -> Any:
    """A Router with one deployment a model."""
    # By name: its sources are many, and the type checker would read them all.
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm.Router(
        model_list=[
            {
                "model_name": GROUP,
                "litellm_params": {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "none"},
                "model_info": {"id": name},
            }
            for name in models
        ],
        routing_strategy=strategy,
        num_retries=retries,
        timeout=60,
        set_verbose=False,
    )


async def _run(order: dict[str, Any]) -> dict[str, Any]:
    router = router_of(order["strategy"], order["url"], order["models"])
    loop = asyncio.get_running_loop()

    async def one(number: int, due: float) -> float | None:
        message = {"role": "user", "content": f"request {order['seed']} {number}"}
        try:
            await router.acompletion(model=GROUP, messages=[message])
        except Exception:  # noqa: BLE001 - whatever it raises, this request has failed; it is counted
            return None
        return loop.time() - due

    latencies, late = await paced(arrivals(order["rate"], order["count"], order["seed"]), one)
    return {"latencies": latencies, "late": late}


def main() -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # what it prints is no answer of ours
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for order in orders(out):
            answer(out, **runner.run(_run(order)))


if __name__ == "__main__":
    main()
