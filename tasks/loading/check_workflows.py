"""See that the steps of workflows are jobs that would be accepted, when the configuration is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.config.located import Loc, Located, Problem
from tasks.config.prompts import check_prompt, check_prompts
from tasks.contract.errors import BadInput, ConfigError
from tasks.contract.job import parse_job
from tasks.loading.load_workflows import takes_of
from tasks.routing.traits import check_metrics, unmeasured

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.workflow_file import Input
    from tasks.workflows.workflow import Workflow

__all__ = ["check_library"]

#: A step of a field's path: a name, or a number in brackets.
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def check_library(config: Config) -> None:
    """See that steps are right and end, and that the prompts of routes are there.

    Raises:
        ConfigError: all problems of the workflows' files, a line each.
        Located: with what is wrong in the configuration itself.
    """
    told = []
    inputs = {name: workflow.inputs for name, workflow in config.flows.items()}
    for name, workflow in config.flows.items():
        problems = [*_routes(config, name), *_steps(config, workflow, inputs), *_circles(config, name)]
        if problems:
            told.append(config.library.written[name].told(problems, whole="workflow"))
    if told:
        raise ConfigError("\n".join(told))
    own: list[Problem] = []
    for name, route in config.routes.items():
        try:
            check_prompt(config, route.prompt or "", at="prompt")
        except BadInput as error:
            own.append((("routes", name, "prompt"), _said(error)))
    if own:
        raise Located(own)


def _routes(config: Config, workflow: str) -> Iterator[Problem]:
    for full, route in config.flows[workflow].routes.items():
        at = ("routes", full.removeprefix(f"{workflow}."))
        try:
            check_prompt(config, route.prompt or "", at="prompt")
            if not unmeasured(config):
                check_metrics(config, full, route.strategy, None)
        except BadInput as error:
            yield (*at, error.field), _said(error)


def _steps(config: Config, workflow: Workflow, inputs: Mapping[str, tuple[Input, ...]]) -> Iterator[Problem]:
    for index, step in enumerate(workflow.steps):
        yield from _template(config, step.job, ("steps", index, "job"), inputs)


def _template(config: Config, job: Mapping[str, Any], at: Loc, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """Try it as a job with some input: the input that it will have is checked when it is there."""
    from tasks.workflows.check_job import check  # noqa: PLC0415 - with all joins and splits, which few configurations need

    try:
        read = parse_job({**job, **_some_input(job, takes_of(job, inputs))})
        check(read, config)
        check_prompts(job, config)
    except BadInput as error:
        yield (*at, *_loc(error.field)), _said(error)
        return
    if isinstance(job.get("each"), Mapping):
        yield from _template(config, job["each"], (*at, "each"), inputs)


def _some_input(job: Mapping[str, Any], takes: Sequence[Input]) -> dict[str, Any]:
    if takes[0] == "items":
        quorum = job.get("quorum")
        return {"items": ["x"] * (quorum if isinstance(quorum, int) and 0 < quorum <= 1000 else 1)}
    return {"text": "x"} if takes[0] == "text" else {"messages": [{"role": "user", "content": "x"}]}


def _circles(config: Config, name: str) -> Iterator[Problem]:
    """Steps by which a workflow would be a step of itself."""
    workflows = config.flows
    for index, step in enumerate(workflows[name].steps):
        for kind in _kinds(step.job):
            seen, todo = set(), [kind] if kind in workflows else []
            while todo:
                one = todo.pop()
                if one in seen:
                    continue
                seen.add(one)
                todo += [inner for each in workflows[one].steps for inner in _kinds(each.job) if inner in workflows]
            if name in seen:
                yield ("steps", index, "job", "kind"), f"{kind!r} leads back to this workflow: it would never end"


def _kinds(job: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(job.get("kind"), str):
        yield job["kind"]
    if isinstance(job.get("each"), Mapping):
        yield from _kinds(job["each"])


def _said(error: BadInput) -> str:
    return f"{error.problem}; {error.remedy}" if error.remedy else error.problem


def _loc(field: str) -> Loc:
    """A field such as ``variety.prompts[1]`` as a place."""
    return tuple(int(number) if number else name for name, number in _STEP.findall(field))
