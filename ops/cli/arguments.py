"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        help="Where `pointsman up` keeps its data. By default ~/.local/state/pointsman.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

JobId = Annotated[str, typer.Argument(metavar="ID", help="The id that `pointsman submit` printed.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID", help="The ids that `pointsman submit` printed.")]
BatchId = Annotated[str, typer.Argument(metavar="ID", help="The id that `pointsman batch submit` printed.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the configuration.")]
WorkflowName = Annotated[str, typer.Argument(metavar="WORKFLOW", help="A workflow of the configuration.")]

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end.")]
Timeout = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Seconds to wait; the job goes on after.")
]
Metadata = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="A JSON value counts as such. May be repeated.")
]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="May be repeated.")]
Strategy = Annotated[
    str | None, typer.Option(metavar="NAME", help="The strategy that chooses a model, instead of the route's.")
]
Key = Annotated[
    str | None, typer.Option(metavar="KEY", help="Strategies that keep equal keys together pin on this key.")
]

RunName = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Name this run, or go on with the run of that name."),
]
Judge = Annotated[
    str | None,
    typer.Option("--judge", metavar="MODEL", help="Grades answers that no rule can grade, and recognizes refusals."),
]
RunTimeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Seconds to wait; the run goes on after.")
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw into this file, .png or .svg.")]


def check_plot(path: Path) -> None:
    """Raise `BadInput` for a plot that can't be drawn, before anything is measured."""
    from importlib.util import find_spec

    from tasks.contract.errors import BadInput

    if path.suffix not in {".png", ".svg"}:
        raise BadInput("plot", f"{path.name} is no name of a picture", "end it in .png or .svg")
    if find_spec("matplotlib") is None:
        raise BadInput("plot", "drawing needs matplotlib", "pip install 'pointsman[bench]'")
