"""``pointsman demo``: the main job on real parts, in two minutes. The scenes are in `ops.demo.scenes`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.arguments import AsJson, StateDir
from ops.cli.exits import Exit
from ops.cli.render import note, print_json


def demo(
    *,
    state_dir: StateDir = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the state directory with its records and logs.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show what Pointsman does; needs nothing set up.

    pointsman demo
    """
    import tempfile

    from rich.console import Console

    from ops.demo.scenes import play
    from tasks.contract.errors import ConfigError, PointsmanError

    folder = state_dir or Path(tempfile.mkdtemp(prefix="pointsman-demo-"))
    console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False)
    try:
        report = play(folder, console)
    except PointsmanError as error:
        note(f"pointsman: error: {error}")
        return Exit.USAGE if isinstance(error, ConfigError) else Exit.UNREACHABLE
    except KeyboardInterrupt:
        note("pointsman: stopped")
        return Exit.INTERRUPTED
    finally:
        if not keep and state_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print_json(report)
    if keep:
        console.print(f"The state is kept in {folder}", soft_wrap=True)
    return Exit.OK if report["ok"] else Exit.FAILED
