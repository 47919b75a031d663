"""``pointsman up``: everything on this machine, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import ConfigFile, StateDir
from ops.cli.environment import DEFAULT_CONFIG
from ops.cli.exits import Exit
from ops.cli.render import note

if TYPE_CHECKING:
    from ops.up.stack import Stack


def up(
    config: ConfigFile = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port of HTTP; 0 takes a free one.")] = 8080,
    state_dir: StateDir = None,
    flower_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="The port of Flower; 0 takes a free one.")
    ] = 5555,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Run without Flower.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all processes with their ids.")] = False,
) -> int:
    """Run everything on this machine, until Ctrl-C.

    That is: broker, router, a pool for each model, schedules, HTTP and Flower. Prints one line
    `ready http://127.0.0.1:PORT` on stdout once every pool answers. Accepted jobs are kept in the state directory, and
    go on at the next start.

        pointsman up --config pointsman.yaml
    """
    from ops.up.stack import Options, Stack
    from tasks.contract.errors import ConfigError, PointsmanError
    from tasks.queue.address import state_dir as default_state_dir

    folder = state_dir or default_state_dir()
    options = Options(
        config=config or Path(DEFAULT_CONFIG),
        state_dir=folder,
        port=port,
        flower_port=None if no_flower else flower_port,
        log=note,
    )
    try:
        stack = Stack(options)
        with stack.stopped_by_signals(), stack:
            _describe(stack, folder, verbose=verbose)
            print(f"ready {stack.http}", flush=True)
            stack.run()
            note("stopping: calls in flight have 10 s to end, what remains is run after the next start")
    except KeyboardInterrupt:
        note("stopped before everything was up")
        return Exit.INTERRUPTED
    except PointsmanError as error:
        note(f"pointsman: error: {error}")
        return Exit.USAGE if isinstance(error, ConfigError) else Exit.UNREACHABLE
    note("stopped; nothing was lost")
    return Exit.OK


def _describe(stack: Stack, state_dir: Path, *, verbose: bool) -> None:
    from ops.up.launcher import FLOWER_USER

    for name, model in stack.config.models.items():
        label = " (simulated)" if model.provider == "simulated" else ""
        note(f"pool   {name}{label}: {stack.pools[name].calls} calls in flight")
    if stack.flower:
        note(f"flower {stack.flower}  user {FLOWER_USER}, password in {state_dir / 'flower.password'}")
    note(f"state  {state_dir}  (logs in logs/)")
    if verbose:
        for child in stack.children:
            note(f"process {child.pid}  {child.name}")
