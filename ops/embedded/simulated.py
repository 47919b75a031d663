"""Simulated models over HTTP, in OpenAI's chat-completions API: many models, one process, no cost.

`tasks.config.simulation` declares their behaviour. Latency, errors and the choice among answers follow from a hash of
model, messages, seed and the number of repetitions: a run can be repeated, and yet a retry may succeed. Tokens are
estimated, four letters each. The HTTP surface is in `chat_completions.py`.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import uvicorn
from pydantic import TypeAdapter, ValidationError

from ops.embedded.chat_completions import SimulatedModels
from ops.embedded.server_process import add_ready_options, announce
from tasks.config.simulation import Simulation
from tasks.queue.address import is_loopback


def serve(models: Mapping[str, Simulation], *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve `models` until SIGTERM or SIGINT; port 0 takes a free one. Must be called from the main thread.

    `ready` is called with the base URL (``http://HOST:PORT/v1``) once requests are answered. A signal breaks off open
    requests. Raises OSError if the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    # Accepted sockets inherit it. Without it, a kept connection waits 40 ms between an answer's head and its body.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}/v1"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(url)

    server = Server(
        uvicorn.Config(
            SimulatedModels(models),
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=2048,
            timeout_keep_alive=120,  # longer than clients keep idle connections: none is closed under a request
            timeout_graceful_shutdown=0,
        )
    )

    def stop(_signal: int, _frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal that ended it once more: these handlers make the exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with listener:
        server.run(sockets=[listener])


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m ops.embedded.simulated``; the exit code is 0 after a signal, 2 for a mistake in the call."""
    parser = argparse.ArgumentParser(prog="python -m ops.embedded.simulated", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="JSON: name of a model → its simulation")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    add_ready_options(parser)
    options = parser.parse_args(arguments)
    if not is_loopback(options.host):
        parser.error(f"--host {options.host} is not a loopback address; simulated models serve this machine only")
    try:
        models = TypeAdapter(dict[str, Simulation]).validate_json(options.models.read_bytes())
    except (OSError, ValidationError) as error:
        parser.error(f"--models {options.models}: {error}")

    try:
        serve(models, host=options.host, port=options.port, ready=partial(announce, options))
    except OSError as error:
        parser.error(f"--port {options.port}: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
