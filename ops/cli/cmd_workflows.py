"""``pointsman workflows``: the workflows of the configuration and their steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson
from ops.cli.environment import load_config
from ops.cli.exits import Failure
from ops.cli.render import note, print_json, print_table

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.library import Step, Workflow


def workflows(
    name: Annotated[
        str | None, typer.Argument(metavar="WORKFLOW", help="Show the steps, prompts and routes of this one.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the workflows, or show the steps of one.

    A prompt is shown with its version, a hash that also stands in the parts of a result. `pointsman run` runs one.

        pointsman workflows
        pointsman workflows legal_review
    """
    config = load_config()
    if name is not None:
        workflow = known_workflow(config, name)
        if as_json:
            print_json(_as_json(config, workflow))
        else:
            _show(config, workflow)
        return
    if as_json:
        print_json([_as_json(config, workflow) for workflow in config.flows.values()])
        return
    rows = [
        (
            workflow.name,
            " or ".join(workflow.inputs),
            ", ".join(step.name for step in workflow.steps),
            workflow.description,
        )
        for workflow in config.flows.values()
    ]
    if rows:
        print_table(("workflow", "input", "steps", ""), rows, whole=("workflow", "input"))
    else:
        note(f"the configuration has no workflow; ready-made ones are: {', '.join(_ready())}")
        note("  try: workflows: {legal_review: ready}")


def known_workflow(config: Config, name: str) -> Workflow:
    """Return the workflow of this name.

    Raises:
        Failure: if the configuration has none.
    """
    if (workflow := config.flows.get(name)) is not None:
        return workflow
    if name in _ready():
        remedy = f"it comes with pointsman: add `workflows: {{{name}: ready}}` to the configuration"
    else:
        remedy = f"there are: {', '.join(config.flows) or 'none'}"
    raise Failure("bad_input", f"the configuration has no workflow {name!r}", field="workflow", remedy=remedy)


def _ready() -> list[str]:
    from tasks.loading.load_workflows import names_in

    return names_in("ready")


def _as_json(config: Config, workflow: Workflow) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "description": workflow.description,
        "input": list(workflow.inputs),
        "example": str(workflow.example) if workflow.example else None,
        "cases": str(workflow.cases) if workflow.cases else None,
        "routes": {
            name: {"models": list(route.models), "prompts": _versions(config, {"prompt": route.prompt})}
            for name, route in workflow.routes.items()
        },
        "steps": [
            {
                "name": step.name,
                "kind": step.job.get("kind", "single"),
                "optional": step.optional,
                "conditional": step.when is not None,
                "job": dict(step.job),
                "prompts": _versions(config, step.job),
            }
            for step in workflow.steps
        ],
    }


def _versions(config: Config, job: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each prompt of a step or a route."""
    from tasks.config.prompts import PREFIX, prompts_in, version_of

    found: dict[str, str] = {}
    for _, prompt in prompts_in(job):
        if prompt.startswith(PREFIX):
            name = prompt.removeprefix(PREFIX)
            found[name] = config.library.prompts[name].version
        else:
            found["(in the file)"] = version_of(prompt)
    return found


def _show(config: Config, workflow: Workflow) -> None:
    print(f"{workflow.name}: {workflow.description}")
    print(f"takes {' or '.join(workflow.inputs)}; {workflow.folder}")
    print()
    rows = [
        (
            step.name,
            _describe(step),
            _join_versions(_versions(config, step.job)),
        )
        for step in workflow.steps
    ]
    print_table(("step", "does", "prompts"), rows, whole=("step",))
    routes = [
        (name, ", ".join(route.models), _join_versions(_versions(config, {"prompt": route.prompt})), route.description)
        for name, route in workflow.routes.items()
    ]
    print()
    print_table(("route", "models", "prompt", ""), routes, whole=("route",))


def _join_versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _describe(step: Step) -> str:
    """Describe a step, such as ``sections by numbered, merge; if its condition holds``."""
    job = step.job
    words = str(job.get("kind", "single"))
    words += f" by {job['split']}" if job.get("split") else ""
    words += f" of {job['n']}" if job.get("n") else ""
    words += f", each {job['each'].get('kind', 'single')}" if job.get("each") else ""
    words += f", {job['join']}" if job.get("join") else ""
    words += f", one of {len(job['routes'])} routes" if job.get("routes") else ""
    words += "; if its condition holds" if step.when is not None else ""
    return words + ("; may fail" if step.optional else "")
