"""`pointsman eval …`: how good a classifier, a strategy, a prompt or a workflow is. One command a module."""

from __future__ import annotations

import typer

from ops.cli.cmd_eval_classifier import classifier
from ops.cli.cmd_eval_cost_quality import cost_quality
from ops.cli.cmd_eval_prompts import prompts
from ops.cli.cmd_eval_strategies import strategies
from ops.cli.cmd_eval_workflow import workflow
from ops.cli.commands import command, group

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None)


def evaluate(context: typer.Context) -> None:
    """Measure routing, prompts and workflows on files of your own.

    pointsman eval classifier --train train.jsonl --test test.jsonl
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


group(app, evaluate)
command(app, classifier)
command(app, cost_quality, "cost-quality")
command(app, prompts)
command(app, strategies)
command(app, workflow)
