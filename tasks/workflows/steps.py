"""The steps of a workflow: jobs one after the other, each with the outputs of the earlier ones as its input. Pure.

A job whose kind is the name of a workflow has a part for each step, and each part is a child job. This module makes the
fields of these jobs and the output of the workflow; `tasks.workflows.child_jobs` creates the jobs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tasks.config.config import Config
from tasks.config.library import Input, Step, Workflow
from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.errors import BadInput, JoinError, PromptError
from tasks.contract.job import GIVEN, JOB_FIELDS, Job
from tasks.contract.job_fields import Item
from tasks.parallel.joins.work import Joined
from tasks.routing.classify.context import context_rules

#: The variables of the templates of steps. `steps` are the outputs by name, `data` the same as parsed JSON.
VARIABLES = frozenset({"text", "items", "messages", "metadata", "labels", "steps", "data"})

#: Fields that a job of a workflow may set; the steps set the others. `kind` names the workflow.
_ALLOWED = GIVEN | {"kind", *(name for name, rule in JOB_FIELDS.items() if rule.steps)}
#: Fields that the jobs of all steps get from the workflow's job. Of its deadline and budget they get what is left.
_HANDED_ON = {name for name, rule in JOB_FIELDS.items() if rule.child == "same" or rule.steps}
#: Characters of an item's title.
_TITLE = 200

Evaluated = TypeVar("Evaluated")


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The outcome of a step. `output` is "" unless the step succeeded, `error` "" unless it failed."""

    name: str
    state: Literal["succeeded", "failed", "skipped"]
    output: str = ""
    error: str = ""
    #: The route of its job, unless it is the workflow's own.
    route: str = ""
    truncated: bool = False


def make_step_job(workflow: Workflow, step: int, job: Job, done: Sequence[StepOutcome]) -> Mapping[str, Any] | None:
    """Make the fields of the job of step number `step` (from 0) with its input; None where its condition is false.

    `done` are the earlier steps, in order. The caller adds id, parent, deadline and budget.

    Raises:
        JoinError: where its input can't be made from the earlier steps. The caller names the step.
    """
    this = workflow.steps[step]
    known = _variables(job, done)
    if this.when is not None and not _evaluate(this.when.holds, known):
        return None
    inherited = job.model_dump(mode="json", include=_HANDED_ON, exclude_none=True)
    fields: dict[str, Any] = {**this.job, **inherited}
    before = next((one for one in reversed(done) if one.state == "succeeded"), None)
    if this.input is not None:
        fields |= _parse_input(this, _evaluate(this.input.render, known))
    elif before is not None:
        fields |= _parse_input(this, before.output)
    else:
        fields |= _input_of(job)
    return fields


def conclude_workflow(workflow: Workflow, job: Job, done: Sequence[StepOutcome]) -> Joined:
    """The output of a workflow whose steps are done: its template `output`, else the output of the last step.

    Raises:
        JoinError: where no step has an output, or the template can't be filled in.
    """
    from tasks.parallel.joins.work import Joined  # noqa: PLC0415 - loads all joins, which reading a configuration doesn't need

    details = {
        "steps": [{"name": one.name, "state": one.state} | ({"route": one.route} if one.route else {}) for one in done],
        "truncated": [{"index": index, "title": one.name} for index, one in enumerate(done) if one.truncated],
    }
    if workflow.output is not None:
        output = _evaluate(workflow.output.render, _variables(job, done))
        return Joined(output, details, any(one.truncated for one in done))
    last = next((one for one in reversed(done) if one.state == "succeeded"), None)
    if last is None:
        raise JoinError(f"no step of the workflow {workflow.name!r} gave an output")
    return Joined(last.output, details, last.truncated)


def check_workflow_job(job: Job, config: Config) -> None:
    """Check that a job of a workflow has an accepted input, and no fields that its steps set.

    Raises:
        BadInput: naming the field and the remedy.
    """
    workflow = config.flows[job.kind]
    for name, field in type(job).model_fields.items():
        if name not in _ALLOWED and getattr(job, name) != field.get_default(call_default_factory=True):
            remedy = "leave it out; who does the steps stands in workflows of the configuration"
            raise BadInput(name, f"is what the steps of the workflow {job.kind!r} say themselves", remedy)
    for step in workflow.steps:
        if step.job.get("routes"):
            context_rules(config, tuple(step.job["routes"])).check(job.metadata)
    (given,) = _input_of(job) or ("text",)
    if given not in accepted_inputs(workflow.inputs):
        wanted = " or ".join(workflow.inputs)
        raise BadInput(given, f"is not what the workflow {job.kind!r} takes", f"send {wanted}")


def accepted_inputs(inputs: Sequence[Input]) -> tuple[Input, ...]:
    """The inputs that a job may bring where `inputs` are declared: a text counts as a conversation of one message."""
    return (*inputs, "text") if "messages" in inputs and "text" not in inputs else tuple(inputs)


def _input_of(job: Job) -> dict[str, Any]:
    return job.model_dump(mode="json", include={"text", "items", "messages"}, exclude_none=True)


def _evaluate(evaluate: Callable[[Mapping[str, Any]], Evaluated], known: Mapping[str, Any]) -> Evaluated:
    """Render a template or evaluate a condition; the error names the outputs that should have been JSON."""
    try:
        return evaluate(known)
    except PromptError as error:
        data: _ParsedOutputs = known["data"]
        unread = ", ".join(sorted(data.unreadable))
        raise JoinError(f"{error}{f'; no JSON: the output of {unread}' if unread else ''}") from None


def _variables(job: Job, done: Sequence[StepOutcome]) -> dict[str, Any]:
    given = _input_of(job)
    return {
        "text": given.get("text", ""),
        "items": given.get("items", []),
        "messages": given.get("messages", []),
        "metadata": dict(job.metadata),
        "labels": dict(job.labels),
        "steps": {one.name: one.output for one in done},
        "data": _ParsedOutputs(done),
    }


class _ParsedOutputs(Mapping[str, Any]):
    """The outputs of steps as JSON, parsed when a template reads them; None for a step without an output."""

    def __init__(self, done: Sequence[StepOutcome]) -> None:
        self._done = {one.name: one for one in done}
        self._read: dict[str, Any] = {}
        #: Steps whose output a template has read, and which is not JSON.
        self.unreadable: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            one = self._done[name]
            try:
                self._read[name] = parse_answer(one.output) if one.state == "succeeded" else None
            except NotJSON:
                self.unreadable.add(name)
                raise KeyError(name) from None
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._done)

    def __len__(self) -> int:
        return len(self._done)


def _parse_input(step: Step, made: str) -> dict[str, Any]:
    """Parse the text that a template or the step before made as the kind of input that the step takes."""
    if not made.strip():
        raise JoinError("its input is empty")
    if step.takes[0] == "text":
        return {"text": made}
    try:
        read = parse_answer(made)
    except NotJSON:
        read = None
    if step.takes[0] == "messages":
        if isinstance(read, list) and read and all(isinstance(one, dict) and "role" in one for one in read):
            return {"messages": read}
        return {"text": made}
    if not isinstance(read, list) or not read:
        raise JoinError("it takes items, and its input is no JSON array")
    return {"items": [_item(value) for value in read]}


def _item(value: Any) -> Any:
    """Make a section of an element of an array: texts stay as they are; other values become JSON under their title."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("text"), str) and value.keys() <= Item.model_fields.keys():
        return value
    text = json.dumps(value, ensure_ascii=False)
    title = value.get("title") if isinstance(value, dict) else None
    return {"text": text, "title": title[:_TITLE]} if isinstance(title, str) else text
