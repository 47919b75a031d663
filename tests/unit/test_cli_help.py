"""`pointsman --help`: it comes at once, says all commands, and each command says itself with an example."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops.cli import main
from ops.cli.exits import MEANINGS, Exit

REPOSITORY = Path(__file__).parents[2]

HEAVY = {"celery", "kombu", "redis", "numpy", "httpx", "rich", "yaml", "starlette", "structlog"}
#: Typer itself needs these to read the arguments of a command.
HEAVY_AT_FIRST = HEAVY | {"pydantic", "asyncio"}

COMMANDS = [
    "up", "demo", "submit", "run", "workflows", "status", "result", "cancel", "explain", "route", "models", "doctor",
    "version",
    "pools", "pools scale", "profile", "eval prompts", "eval workflow",
    "batch", "batch submit", "batch status", "batch results", "batch list",
    "schedule", "schedule list", "schedule run",
    "config", "config check", "config schema",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], HEAVY_AT_FIRST), (["submit", "--help"], HEAVY), (["pools", "scale", "--help"], HEAVY)],
)
def test_help_imports_nothing_but_the_parser(arguments, heavy):
    command = [sys.executable, "-X", "importtime", "-m", "ops", *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in printed.stderr.splitlines()}
    assert "typer" in imported
    assert imported & heavy == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_help_with_an_example(command, capsys):
    assert main([*command.split(), "--help"]) == Exit.OK
    printed = capsys.readouterr().out
    assert "Usage: pointsman " + command in printed
    lines = [line.strip() for line in printed.splitlines()]
    own = command.removesuffix(" list").removesuffix(" schema")
    assert any(line.startswith(f"pointsman {own}") or f"| pointsman {own}" in line for line in lines[1:])


def test_help_names_every_exit_code(capsys):
    assert main(["--help"]) == Exit.OK
    printed = capsys.readouterr().out
    assert set(MEANINGS) == set(Exit)
    for code, meaning in MEANINGS.items():
        assert f"{code:>5}  {meaning}" in printed


def test_command_alone_prints_its_help(capsys):
    assert main([]) == Exit.OK
    assert "Commands:" in capsys.readouterr().out


def test_help_cuts_off_no_first_line_of_a_command(capsys):
    main(["--help"])
    listed = capsys.readouterr().out.partition("Commands:")[2].partition("Exit codes:")[0]
    assert "..." not in listed
