"""How a function becomes a command: its options are parsed, and its end of any kind becomes an exit code.

A command is a plain or ``async`` function. Its docstring is the help, it returns an exit code (None for 0) and raises
the errors that it doesn't handle. Related options may stand as the fields of a dataclass: a parameter of that type
becomes an option for each field. A command imports what needs other libraries inside, so that ``pointsman --help``
loads nothing but the parser.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand

from ops.cli.arguments import ConfigFile, StateDir, Verbose
from ops.cli.exits import Exit, Failure, describe, print_failure, wants_traceback

#: Options of every command. They take effect through environment variables, which reach other processes too.
_COMMON: dict[str, tuple[Any, Any, str]] = {
    "config": (ConfigFile, None, "POINTSMAN_CONFIG"),
    "state_dir": (StateDir, None, "POINTSMAN_STATE_DIR"),
    "verbose": (Verbose, False, "POINTSMAN_DEBUG"),
}


def command(
    app: typer.Typer, function: Callable[..., Any], name: str | None = None, *, cls: type[TyperCommand] | None = None
) -> None:
    """Make `function` a command of `app`, of class `cls`."""
    app.command(name, cls=cls, help=help_text(inspect.getdoc(function) or ""))(runner(function))


def group(app: typer.Typer, function: Callable[..., Any], *, epilog: str = "") -> None:
    """Make `function` what `app` runs before its commands, and alone where no command is named."""
    app.callback(invoke_without_command=True, help=help_text(inspect.getdoc(function) or ""), epilog=help_text(epilog))(
        runner(function)
    )


def help_text(text: str) -> str:
    """Return a docstring as help: paragraphs are wrapped, except for indented ones."""
    return "\n\n".join(f"\b\n{part}" if part.startswith(" ") else part for part in text.split("\n\n"))


def runner(function: Callable[..., Any]) -> Callable[..., int]:
    """Return `function` with the options of every command, which returns an exit code instead of raising."""
    signature = inspect.signature(function, eval_str=True)
    bundles: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    common = {name: hint for name, hint in _COMMON.items() if name not in signature.parameters}

    @wraps(function)
    def run(**given: Any) -> int:
        for name, (_, _, variable) in _COMMON.items():
            if value := given.get(name):
                os.environ[variable] = "1" if value is True else str(value)
        own = {name: value for name, value in given.items() if name not in common}
        for name, bundle in bundles.items():
            own[name] = bundle(**{field.name: own.pop(field.name) for field in fields(bundle)})
        return _run(function, own)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in bundles:
            hints = get_type_hints(bundles[name], include_extras=True)
            parameters += [_option(field.name, hints[field.name], field.default) for field in fields(bundles[name])]
        else:
            parameters.append(parameter)
    parameters += [_option(name, hint, default) for name, (hint, default, _) in common.items()]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    return run


def _option(name: str, hint: Any, default: Any) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    default = empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _run(function: Callable[..., Any], given: Mapping[str, Any]) -> int:
    as_json = bool(given.get("as_json"))
    try:
        outcome = function(**given)
        if inspect.iscoroutine(outcome):
            import asyncio

            outcome = asyncio.run(outcome)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at the end of the process: that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
    except KeyboardInterrupt:
        return print_failure(Failure("interrupted", "interrupted"), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the user gets a sentence for every error, not a traceback
        failure = describe(error)
        if wants_traceback():
            import traceback

            traceback.print_exc()
        return print_failure(failure, as_json=as_json)
    return int(outcome or 0)
