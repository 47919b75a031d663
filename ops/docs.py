"""``make docs``: generate the pages of the reference that follow from the code.

`tests/unit/test_docs.py` fails if a page is out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ops.cli import app
from ops.cli.exits import MEANINGS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
#: Options of every command, which the top of the page describes once.
COMMON = ("config", "state_dir", "verbose", "as_json", "help")

_CLI = """\
# The command line

<!-- Written by `make docs` from the commands themselves. -->

Results go to stdout, everything else to stderr. With `--json` a command prints one JSON document, errors too:
`{"error": {"code", "message", "field", "remedy"}}`. The exit codes: [exit codes](exit-codes.md).

All commands take `--config FILE` (or `POINTSMAN_CONFIG`), `--state-dir DIR` (or `POINTSMAN_STATE_DIR`), `--verbose`,
which shows the traceback of an error, and `--help`.
"""

_EXITS = """\
# Exit codes

<!-- Written by `make docs` from `ops/cli/exits.py`. -->

| code | meaning |
|---|---|
"""


def pages() -> dict[Path, str]:
    """Return each generated page with its text."""
    return {
        FOLDER / "cli.md": "\n".join([_CLI, *(_section(name, command) for name, command in commands())]),
        FOLDER / "exit-codes.md": _EXITS + "".join(f"| {code:d} | {meaning} |\n" for code, meaning in MEANINGS.items()),
    }


def commands() -> Iterator[tuple[str, Any]]:
    """Yield all commands below ``pointsman`` in the order of the help, with their full names."""
    yield from _below("pointsman", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for word, inner in getattr(command, "commands", {}).items():
        yield f"{name} {word}", inner
        yield from _below(f"{name} {word}", inner)


def _section(name: str, command: Any) -> str:
    parameters = command.get_params(typer.Context(command))
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    options = [
        parameter for parameter in parameters if parameter.param_type_name == "option" and parameter.name not in COMMON
    ]
    usage = " ".join([name, *map(_argument, arguments)])
    lines = [f"## {name}", "", f"```\n{usage}{' [OPTIONS]' if options else ''}\n```", "", *_help(command)]
    if options:
        lines += ["| option | |", "|---|---|", *(_option(option) for option in options), ""]
    return "\n".join(lines)


def _help(command: Any) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        # The examples: marked as unwrapped, or alone with the first line, where their indentation is lost.
        if paragraph.startswith(("\b", "pointsman ")):
            yield f"```sh\n{inspect.cleandoc(paragraph.lstrip(chr(8)).strip(chr(10)))}\n```\n"
        else:
            yield " ".join(paragraph.split()) + "\n"


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return str(name) if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    text = option.help or ""
    if option.default not in (None, False, ()) and not callable(option.default):
        text += f" Default: {option.default}."
    return f"| {names} | {text.replace('|', chr(92) + '|')} |"


def main() -> int:
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(FOLDER.parents[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
