"""``pointsman config``: check the configuration, have its examples paraphrased, print its schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.arguments import AsJson, RunName, RunTimeout
from ops.cli.commands import command, group
from ops.cli.environment import config_path, load_config, open_producer
from ops.cli.exits import Exit
from ops.cli.render import note, print_json

app = typer.Typer(rich_markup_mode=None)


def configuration(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Check the configuration, print its schema, paraphrase examples.

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
    from tasks.loading.check_config import describe_examples, find_unused
    from tasks.loading.load import load

    path = file or config_path()
    config = load(path)
    counts = {"models": len(config.models), "routes": len(config.routes), "workflows": len(config.flows)}
    counts["schedules"] = len(config.schedules)
    finding = describe_examples(config)
    dialects = {name: model.speaks.describe() for name, model in config.models.items() if model.dialect is not None}
    if as_json:
        found = {"dialects": dialects, "examples": finding, "remarks": find_unused(config)}
        print_json({"file": str(path), "ok": True, **counts, **found})
        return
    print(f"{path}: ok, " + ", ".join(f"{number} {what}" for what, number in counts.items()))
    for name, settings in dialects.items():
        print(f"models.{name}.dialect: {settings}")
    for remark in (*finding, *find_unused(config)):
        note(remark)


async def augment(*, run: RunName = None, timeout: RunTimeout = None, as_json: AsJson = False) -> int:
    """Ask a model for paraphrases of the examples, once: `classifier.augment` names it.

    They are kept in a file beside the configuration, by a hash of each example, so only new and changed examples are
    asked about. Needs a running `pointsman up`; routers read the file when they start.

    pointsman config augment
    """
    from ops.cli.waiting import check_workers, name_run, open_run
    from ops.evaluate.paraphrasing import ask_paraphrases, unasked
    from tasks.contract.errors import BadInput

    config, name = load_config(), name_run(run)
    settings = config.classifier.augment
    if settings is None:
        raise BadInput("classifier.augment", "names no model", "add augment: {model: NAME} to the configuration")
    wanted = unasked(config)
    kept, problems = 0, dict[str, str]()
    if wanted:
        async with open_producer() as producer:
            await check_workers((settings.model,))
            again = "pointsman config augment"
            async with open_run(producer, name, file=str(settings.file), again=again, timeout=timeout) as session:
                kept, problems = await ask_paraphrases(session, wanted, config)
    if as_json:
        print_json({"file": str(config.folder / settings.file), "kept": kept, "problems": problems})
    else:
        print(f"{kept} examples of {len(wanted)} got paraphrases, in {config.folder / settings.file}")
        for place, problem in problems.items():
            note(f"{place}: {problem}")
    return Exit.FAILED if problems else Exit.OK


def schema(*, as_json: AsJson = True) -> None:  # noqa: ARG001 - the schema is JSON either way
    """Print the JSON Schema of the configuration, for editors.

    pointsman config schema > pointsman.schema.json
    """
    from tasks.loading.load import json_schema

    print_json(json_schema())


group(app, configuration)
command(app, check)
command(app, augment)
command(app, schema)
