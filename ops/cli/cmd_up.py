"""`pointsman up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.cli.exits import Exit
from ops.up.stack import FLOWER_USER, Options, Stack
from tasks.contract.errors import ConfigError, PointsmanError

__all__ = ["end_on_signals", "run"]


def run(
    *, config: Path, port: int, state_dir: Path, flower_port: int | None, flower: bool, verbose: bool = False
) -> int:
    """Start everything, say so, and run until SIGINT or SIGTERM; a second signal does not wait for calls in flight."""
    options = Options(
        config=config, state_dir=state_dir, port=port, flower_port=flower_port if flower else None, say=_say
    )
    try:
        stack = Stack(options)
        with end_on_signals(stack), stack:
            _tell(stack, state_dir, verbose=verbose)
            print(f"ready {stack.http}", flush=True)
            stack.run()
            _say("stopping: calls in flight have 10 s to end, what remains is run after the next start")
    except KeyboardInterrupt:
        _say("stopped before everything was up")
        return Exit.INTERRUPTED
    except PointsmanError as error:
        print(f"pointsman: error: {error}", file=sys.stderr)
        return Exit.USAGE if isinstance(error, ConfigError) else Exit.UNREACHABLE
    _say("stopped; nothing was lost")
    return Exit.OK


@contextmanager
def end_on_signals(stack: Stack) -> Iterator[None]:
    """While entered, SIGINT and SIGTERM have the stack stop in order; the second one, at once."""

    def end(_sign: int, _frame: object) -> None:
        if stack.stopping.is_set():
            stack.hurry.set()
        stack.stopping.set()

    previous = {sign: signal.signal(sign, end) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in previous.items():
            signal.signal(sign, handler)


def _tell(stack: Stack, state_dir: Path, *, verbose: bool) -> None:
    for name, model in stack.config.models.items():
        label = " (simulated)" if model.provider == "simulated" else ""
        _say(f"pool   {name}{label}: {stack.pools[name].calls} calls in flight")
    if stack.flower:
        _say(f"flower {stack.flower}  user {FLOWER_USER}, password in {state_dir / 'flower.password'}")
    _say(f"state  {state_dir}  (logs in logs/)")
    if verbose:
        for child in stack.children:
            _say(f"process {child.pid}  {child.name}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
