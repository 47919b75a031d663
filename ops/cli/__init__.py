"""The command line: the commands are in ``cmd_<name>.py``; this module lists them in the order of the help.

May import everything. Start reading at `commands.py`, which makes commands of functions, and `cmd_submit.py`. The
modules that are imported here need the standard library and typer alone: ``pointsman --help`` must appear at once.
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
    cmd_cancel,
    cmd_config,
    cmd_demo,
    cmd_doctor,
    cmd_eval,
    cmd_explain,
    cmd_models,
    cmd_pools,
    cmd_profile,
    cmd_result,
    cmd_route,
    cmd_run,
    cmd_schedule,
    cmd_status,
    cmd_submit,
    cmd_up,
    cmd_workflows,
)
from ops.cli.arguments import AsJson
from ops.cli.cmd_submit import JobCommand
from ops.cli.commands import command, group
from ops.cli.exits import Exit, Failure, describe, exit_table, print_failure, wants_traceback
from ops.cli.render import print_json

__all__ = ["app", "main"]

app = typer.Typer(
    name="pointsman", rich_markup_mode=None, pretty_exceptions_enable=False, context_settings={"max_content_width": 100}
)


def pointsman(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Route and run jobs for large language models: submit, watch, explain; and run the workers that do them.

        pointsman up
        pointsman submit "Why was I charged twice?" --wait

    Results go to stdout, everything else to stderr; --json prints one JSON document.
    """
    if show_version:
        version()
    elif context.invoked_subcommand is None:
        print(context.get_help())


def version(*, as_json: AsJson = False) -> None:
    """Print the version.

    pointsman version --json
    """
    import platform
    from importlib.metadata import version as version_of

    if as_json:
        print_json({"version": version_of("pointsman"), "python": platform.python_version()})
    else:
        print(f"pointsman {version_of('pointsman')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. An error is printed as sentences, not as a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None or sys.stderr is None:  # the caller closed them (`>&-`)
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end of the process
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal's encoding lacks are escaped: an answer must not fail for its letters.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    if any(not _is_text(argument) for argument in arguments):
        return print_failure(Failure("usage", "an argument is not UTF-8 text"), as_json=as_json)
    try:
        return int(typer.main.get_command(app).main(arguments, prog_name="pointsman", standalone_mode=False) or 0)
    except Exception as error:
        # The parser's errors format their message themselves. Their classes are not public in all versions of typer.
        format_message = getattr(error, "format_message", None)
        if format_message is None and wants_traceback():
            raise
        failure = Failure("usage", format_message(), remedy=_usage_of(error)) if format_message else describe(error)
        with contextlib.suppress(BrokenPipeError):
            return print_failure(failure, as_json=as_json)
        return Exit.PIPE


def _is_text(argument: str) -> bool:
    """Whether an argument can be encoded: Python reads bytes that are not UTF-8 as lone surrogates, which cannot."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _usage_of(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "pointsman --help"


group(app, pointsman, epilog=f"Exit codes:\n\n{exit_table()}")
command(app, cmd_up.up)
command(app, cmd_demo.demo)
command(app, cmd_submit.submit, cls=JobCommand)
command(app, cmd_run.run)
command(app, cmd_workflows.workflows)
command(app, cmd_status.status)
command(app, cmd_result.result)
command(app, cmd_cancel.cancel)
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
app.add_typer(cmd_eval.app, name="eval")
app.add_typer(cmd_bench.app, name="bench")
