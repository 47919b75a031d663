"""What all commands have: the options that say where things are, and how an end of any kind is told.

A command is a plain or an ``async`` function, its docstring the help; it returns an exit code, or None for 0, and
raises what it can't handle. It imports inside, so that ``pointsman --help`` loads nothing but the parser.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.exits import Exit
from ops.cli.failures import Failure, debugging, describe, report

__all__ = ["AsJson", "ConfigFile", "StateDir", "Verbose", "command", "group", "help_text", "runner"]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="POINTSMAN_CONFIG",
        help="The configuration. By default that of the running `pointsman up`, else ./pointsman.yaml.",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        envvar="POINTSMAN_STATE_DIR",
        help="What `pointsman up` keeps and says there. By default ~/.local/state/pointsman.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

#: Options that a command gets without naming them. They reach everything below, other processes too, by environment.
_ADDED: dict[str, tuple[Any, Any]] = {
    "config": (ConfigFile, None),
    "state_dir": (StateDir, None),
    "verbose": (Verbose, False),
}


def command(app: typer.Typer, function: Callable[..., Any], name: str | None = None) -> None:
    """Make `function` a command of `app`."""
    app.command(name, help=help_text(inspect.getdoc(function) or ""))(runner(function))


def group(app: typer.Typer, function: Callable[..., Any], *, epilog: str = "") -> None:
    """Make `function` what `app` does when no command of it is named."""
    app.callback(invoke_without_command=True, help=help_text(inspect.getdoc(function) or ""), epilog=help_text(epilog))(
        runner(function)
    )


def help_text(text: str) -> str:
    """A text as help: its paragraphs are wrapped, those that are indented stay as they are written."""
    return "\n\n".join(f"\b\n{part}" if part.startswith(" ") else part for part in text.split("\n\n"))


def runner(function: Callable[..., Any]) -> Callable[..., int]:
    """`function` with the options that all commands have, never raising but for its arguments."""
    signature = inspect.signature(function, eval_str=True)
    added = {name: hint for name, hint in _ADDED.items() if name not in signature.parameters}

    @wraps(function)
    def run(**given: Any) -> int:
        _apply({name: given[name] for name in _ADDED if name in given})
        return _ended({name: value for name, value in given.items() if name not in added}, function)

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in added.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    return run


def _apply(options: dict[str, Any]) -> None:
    if options.get("config"):
        os.environ["POINTSMAN_CONFIG"] = str(options["config"])
    if options.get("state_dir"):
        os.environ["POINTSMAN_STATE_DIR"] = str(options["state_dir"])
    if options.get("verbose"):
        os.environ["POINTSMAN_DEBUG"] = "1"


def _ended(given: dict[str, Any], function: Callable[..., Any]) -> int:
    as_json = bool(given.get("as_json"))
    try:
        outcome = function(**given)
        if inspect.iscoroutine(outcome):
            import asyncio

            outcome = asyncio.run(outcome)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would be written, and refused, once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
    except KeyboardInterrupt:
        return report(Failure("interrupted", "interrupted"), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a sentence, not a traceback
        failure = describe(error)
        if debugging():
            import traceback

            traceback.print_exc()
        return report(failure, as_json=as_json)
    return int(outcome or 0)
