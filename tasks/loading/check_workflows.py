"""Check when the configuration is loaded that the steps of workflows are jobs that would be accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.config.config import Config
from tasks.config.library import Input, Workflow
from tasks.config.prompts import check_prompt, check_prompts
from tasks.contract.errors import BadInput, ConfigError
from tasks.contract.job import parse_job
from tasks.contract.validation import Loc
from tasks.loading.located import Problem, YamlFile
from tasks.routing.traits import check_metrics, unmeasured
from tasks.workflows.steps import accepted_inputs

#: A step of a field's path: a name, or a number in brackets.
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def check_library(config: Config, documents: Mapping[str, YamlFile]) -> list[Problem]:
    """Check that workflows end, that their steps would be accepted, and that the prompts of routes exist.

    `documents` are the files of the workflows. Returns the problems of the configuration itself.

    Raises:
        ConfigError: with all problems of the workflows' files, a line each.
    """
    wrong = []
    inputs = {name: workflow.inputs for name, workflow in config.flows.items()}
    for name, workflow in config.flows.items():
        problems = [*_check_routes(config, name), *_check_steps(config, workflow, inputs), *_find_circles(config, name)]
        if problems:
            wrong.append(documents[name].format_problems(problems, root="workflow"))
    if wrong:
        raise ConfigError("\n".join(wrong))
    own: list[Problem] = []
    for name, route in config.routes.items():
        try:
            check_prompt(config, route.prompt or "", at="prompt")
        except BadInput as error:
            own.append((("routes", name, "prompt"), error.sentence))
    return own


def find_inputs(job: Mapping[str, Any], inputs: Mapping[str, tuple[Input, ...]]) -> tuple[Input, ...]:
    """The kinds of input that a job with these fields accepts. `inputs`: those of each workflow."""
    kind = job.get("kind", "single")
    if isinstance(kind, str) and kind in inputs:
        return accepted_inputs(inputs[kind])
    if kind == "sections":
        return ("items",) if job.get("split") in {None, "list"} else ("text",)
    return ("text", "messages")


def _check_routes(config: Config, workflow: str) -> Iterator[Problem]:
    for full, route in config.flows[workflow].routes.items():
        at = ("routes", full.removeprefix(f"{workflow}."))
        try:
            check_prompt(config, route.prompt or "", at="prompt")
            if not unmeasured(config):
                check_metrics(config, full, route.strategy, None)
        except BadInput as error:
            yield (*at, error.field), error.sentence


def _check_steps(config: Config, workflow: Workflow, inputs: Mapping[str, tuple[Input, ...]]) -> Iterator[Problem]:
    for index, step in enumerate(workflow.steps):
        yield from _check_step(config, step.job, ("steps", index, "job"), inputs)


def _check_step(config: Config, job: Mapping[str, Any], at: Loc, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """Check a step as a job with a made-up input; the real input is checked when the step runs."""
    from tasks.workflows.check_job import check_job  # noqa: PLC0415 - loads all joins and splits, which few configurations need

    try:
        read = parse_job({**job, **_made_up_input(job, find_inputs(job, inputs))})
        check_job(read, config)
        check_prompts(job, config)
    except BadInput as error:
        yield (*at, *_loc(error.field)), error.sentence
        return
    if isinstance(job.get("each"), Mapping):
        yield from _check_step(config, job["each"], (*at, "each"), inputs)


def _made_up_input(job: Mapping[str, Any], takes: Sequence[Input]) -> dict[str, Any]:
    if takes[0] == "items":
        quorum = job.get("quorum")
        return {"items": ["x"] * (quorum if isinstance(quorum, int) and 0 < quorum <= 1000 else 1)}
    return {"text": "x"} if takes[0] == "text" else {"messages": [{"role": "user", "content": "x"}]}


def _find_circles(config: Config, name: str) -> Iterator[Problem]:
    """Find steps by which a workflow would be a step of itself."""
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


def _loc(field: str) -> Loc:
    """The place of a field such as ``variety.prompts[1]``."""
    return tuple(int(number) if number else name for name, number in _STEP.findall(field))
