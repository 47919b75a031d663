"""``pointsman config``: check the configuration, print its schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.arguments import AsJson
from ops.cli.commands import command, group
from ops.cli.environment import config_path
from ops.cli.render import note, print_json

app = typer.Typer(rich_markup_mode=None)


def configuration(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Check the configuration, or print its schema.

    pointsman config check pointsman.yaml
    """
    if context.invoked_subcommand is None:
        check(as_json=as_json)


def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="By default the one that all commands use.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Check a configuration; every problem is printed with its line, its field, and the allowed values.

    pointsman config check pointsman.yaml
    """
    from tasks.loading.check_config import find_unused
    from tasks.loading.load import load

    path = file or config_path()
    config = load(path)
    counts = {"models": len(config.models), "routes": len(config.routes), "workflows": len(config.flows)}
    counts["schedules"] = len(config.schedules)
    if as_json:
        print_json({"file": str(path), "ok": True, **counts, "remarks": find_unused(config)})
        return
    print(f"{path}: ok, " + ", ".join(f"{number} {what}" for what, number in counts.items()))
    for remark in find_unused(config):
        note(remark)


def schema(*, as_json: AsJson = True) -> None:  # noqa: ARG001 - the schema is JSON either way
    """Print the JSON Schema of the configuration, for editors.

    pointsman config schema > pointsman.schema.json
    """
    from tasks.loading.load import json_schema

    print_json(json_schema())


group(app, configuration)
command(app, check)
command(app, schema)
