"""The command line. One noun a module; this one lists the commands in the order of the help.

Nothing here or in the modules it imports may import more than typer: ``pointsman --help`` must come at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ops.cli import (
    cmd_batch,
    cmd_bench,
    cmd_config,
    cmd_doctor,
    cmd_explain,
    cmd_models,
    cmd_pools,
    cmd_profile,
    cmd_route,
    cmd_run,
    cmd_schedule,
    cmd_status,
    cmd_submit,
    cmd_workflows,
)
from ops.cli.arguments import AsJson, ConfigFile, StateDir
from ops.cli.cmd_eval import app as evaluations
from ops.cli.commands import command, group
from ops.cli.exits import Exit, Failure, describe, exit_table, print_failure, wants_traceback
from ops.cli.job_options import JobCommand

__all__ = ["app", "main"]

app = typer.Typer(
    name="pointsman", rich_markup_mode=None, pretty_exceptions_enable=False, context_settings={"max_content_width": 100}
)


def _up(
    config: ConfigFile = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Where HTTP is served; 0 takes a free port.")] = 8080,
    state_dir: StateDir = None,
    flower_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Where Flower is served; 0 takes a free port.")
    ] = 5555,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Run without Flower.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what all processes log.")] = False,
) -> int:
    """Run everything on this machine, until Ctrl-C.

    That is: broker, router, a pool for each model, schedules, HTTP and Flower. Prints one line
    `ready http://127.0.0.1:PORT` on stdout once every pool answers. What was accepted is kept in the state directory,
    and goes on at the next start.

        pointsman up --config pointsman.yaml
    """
    from ops.cli import cmd_up
    from ops.cli.environment import DEFAULT_CONFIG
    from tasks.queue.address import state_dir as default_state_dir

    return cmd_up.run(
        config=config or Path(DEFAULT_CONFIG),
        port=port,
        state_dir=state_dir or default_state_dir(),
        flower_port=flower_port,
        flower=not no_flower,
        verbose=verbose,
    )


def _demo(
    *,
    state_dir: StateDir = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep what it made: records and logs.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show what Pointsman does; needs nothing set up.

    pointsman demo
    """
    from ops.cli import cmd_demo

    return cmd_demo.run(state_dir=state_dir, keep=keep, as_json=as_json)


def version(*, as_json: AsJson = False) -> None:
    """Print the version.

    pointsman version --json
    """
    import platform
    from importlib.metadata import version as version_of

    from ops.cli.render import print_json

    if as_json:
        print_json({"version": version_of("pointsman"), "python": platform.python_version()})
    else:
        print(f"pointsman {version_of('pointsman')}")


def pointsman(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Route and run jobs for large language models: submit, watch, explain; and run the workers that do them.

        pointsman up
        pointsman submit "Why was I charged twice?" --wait

    Results stand on stdout, all else on stderr; --json prints one JSON document.
    """
    if show_version:
        version()
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Whatever happens, the user gets sentences, not a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started us (`>&-`)
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end of the process
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks is shown as its number: an answer is worth more than its spelling.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    if any(not _is_text(argument) for argument in arguments):
        return print_failure(Failure("usage", "an argument is not UTF-8 text"), as_json=as_json)
    try:
        return int(typer.main.get_command(app).main(arguments, prog_name="pointsman", standalone_mode=False) or 0)
    except Exception as error:
        # The parser's errors know how to say themselves; no class of them is public in all versions of typer.
        tell = getattr(error, "format_message", None)
        if tell is None and wants_traceback():
            raise
        failure = Failure("usage", tell(), remedy=_usage_of(error)) if tell else describe(error)
        with contextlib.suppress(BrokenPipeError):
            return print_failure(failure, as_json=as_json)
        return Exit.PIPE


def _is_text(argument: str) -> bool:
    """Whether it can be sent anywhere: bytes that are no text come as characters that have no encoding."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _usage_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "pointsman --help"


group(app, pointsman, epilog=f"Exit codes:\n\n{exit_table()}")
command(app, _up, "up")
command(app, _demo, "demo")
command(app, cmd_submit.submit, cls=JobCommand)
command(app, cmd_run.run)
command(app, cmd_workflows.workflows)
command(app, cmd_status.status)
command(app, cmd_status.result)
command(app, cmd_status.cancel)
command(app, cmd_explain.explain)
command(app, cmd_route.route)
command(app, cmd_models.models)
command(app, cmd_profile.profile)
command(app, cmd_doctor.doctor)
command(app, version)
app.add_typer(cmd_pools.app, name="pools")
app.add_typer(cmd_batch.app, name="batch")
app.add_typer(cmd_schedule.app, name="schedule")
app.add_typer(cmd_config.app, name="config")
app.add_typer(evaluations, name="eval")
app.add_typer(cmd_bench.app, name="bench")
