"""A workflow: jobs one after the other, each fed by what the ones before gave. Pure.

A job whose kind is a workflow's name has a part for each step, and each part is a job of its own. What that job is, and
what the workflow answers in the end, is decided here; who sends them, and when, is the engine's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.errors import BadInput, JoinError, PromptError
from tasks.contract.job import GIVEN, JOB_FIELDS, Item
from tasks.routing.classify.context import context_rules

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.config.library import Step, Workflow
    from tasks.config.workflow_file import Input
    from tasks.contract.job import Job
    from tasks.parallel.joins.work import Joined

__all__ = ["VARIABLES", "StepDone", "accepted", "check_workflow_job", "conclude", "step_job"]

#: What the templates of steps may read. `steps` are the outputs by name, `data` the same as parsed JSON.
VARIABLES = frozenset({"text", "items", "messages", "metadata", "labels", "steps", "data"})

#: Fields that a job of a workflow may set; the steps set the others. `kind` names the workflow.
_ALLOWED = GIVEN | {"kind", *(name for name, rule in JOB_FIELDS.items() if rule.steps)}
#: Fields that the jobs of all steps have from the workflow's job. Its deadline and budget are shared out elsewhere.
_HANDED_ON = {name for name, rule in JOB_FIELDS.items() if rule.child == "same" or rule.steps}
#: Characters of an item's title.
_TITLE = 200


@dataclass(frozen=True, slots=True)
class StepDone:
    """What became of a step. `output` is "" unless it succeeded, `error` "" unless it failed."""

    name: str
    state: Literal["succeeded", "failed", "skipped"]
    output: str = ""
    error: str = ""
    #: The route of its job, where that is not the workflow's own.
    route: str = ""


def step_job(workflow: Workflow, step: int, job: Job, done: Sequence[StepDone]) -> Mapping[str, Any] | None:
    """The fields of the job of step number `step` (from 0), input included; None where its condition says skip it.

    `done` are the steps before it, in order. Metadata, labels and priority are the workflow job's; id, parent, deadline
    and budget are left to the caller.

    Raises:
        JoinError: naming the step, where its input can't be made of what is there.
    """
    this = workflow.steps[step]
    known = _variables(job, done)
    if this.when is not None and not _filled(this.when.holds, known):
        return None
    fields: dict[str, Any] = {**this.job, **_handed_on(job)}
    before = next((one for one in reversed(done) if one.state == "succeeded"), None)
    if this.input is not None:
        fields |= _read(this, _filled(this.input.render, known))
    elif before is not None:
        fields |= _read(this, before.output)
    else:
        fields |= _given(job)
    return fields


def conclude(workflow: Workflow, job: Job, done: Sequence[StepDone]) -> Joined:
    """The answer of the workflow, all steps of which are done: what `output` says, else what the last step gave.

    Raises:
        JoinError: where no step gave anything, or the output can't be made of what is there.
    """
    from tasks.parallel.joins.work import Joined  # noqa: PLC0415 - with all joins, which reading a configuration needs not

    details = {"steps": [_told(one) for one in done]}
    if workflow.output is not None:
        return Joined(_filled(workflow.output.render, _variables(job, done)), details)
    last = next((one for one in reversed(done) if one.state == "succeeded"), None)
    if last is None:
        raise JoinError(f"no step of the workflow {workflow.name!r} gave an output")
    return Joined(last.output, details)


def _told(one: StepDone) -> dict[str, str]:
    return {"name": one.name, "state": one.state, **({"route": one.route} if one.route else {})}


def check_workflow_job(job: Job, config: Config, at: str = "") -> None:
    """See that a job of a workflow brings what it takes and says nothing that its steps say. Other jobs pass.

    Raises:
        BadInput: naming the field (below `at`) and the remedy.
    """
    workflow = config.flows.get(job.kind)
    if workflow is None:
        return
    dot = f"{at}." if at else ""
    for name, field in type(job).model_fields.items():
        if name not in _ALLOWED and getattr(job, name) != field.get_default(call_default_factory=True):
            remedy = "leave it out; who does the steps stands in workflows of the configuration"
            raise BadInput(f"{dot}{name}", f"is what the steps of the workflow {job.kind!r} say themselves", remedy)
    for step in workflow.steps:
        if step.job.get("routes"):
            context_rules(config, tuple(step.job["routes"])).check(job.metadata, at=dot)
    (given,) = _given(job) or ("text",)
    if given not in accepted(workflow.inputs):
        wanted = " or ".join(workflow.inputs)
        raise BadInput(f"{dot}{given}", f"is not what the workflow {job.kind!r} takes", f"send {wanted}")


def accepted(inputs: Sequence[Input]) -> tuple[Input, ...]:
    """What a job may bring where `inputs` are wanted: a text is a conversation of one message, too."""
    return (*inputs, "text") if "messages" in inputs and "text" not in inputs else tuple(inputs)


def _given(job: Job) -> dict[str, Any]:
    """The job's input as it is."""
    data = job.model_dump(mode="json", include={"text", "items", "messages"}, exclude_none=True)
    if "items" in data:
        data["items"] = [_without_nothing(item) for item in data["items"]]
    return data


def _without_nothing(item: Any) -> Any:
    return {name: value for name, value in item.items() if value is not None} if isinstance(item, dict) else item


def _handed_on(job: Job) -> dict[str, Any]:
    return job.model_dump(mode="json", include=_HANDED_ON, exclude_none=True)


def _filled(fill: Any, known: Mapping[str, Any]) -> Any:
    try:
        return fill(known)
    except PromptError as error:
        data: _Parsed = known["data"]
        unread = ", ".join(sorted(data.unreadable))
        raise JoinError(f"{error}{f'; no JSON: the output of {unread}' if unread else ''}") from None


def _variables(job: Job, done: Sequence[StepDone]) -> dict[str, Any]:
    given = _given(job)
    return {
        "text": given.get("text", ""),
        "items": given.get("items", []),
        "messages": given.get("messages", []),
        "metadata": dict(job.metadata),
        "labels": dict(job.labels),
        "steps": {one.name: one.output for one in done},
        "data": _Parsed(done),
    }


class _Parsed(Mapping[str, Any]):
    """Outputs as JSON, parsed where a template asks for them; None of a step that gave none."""

    def __init__(self, done: Sequence[StepDone]) -> None:
        self._done = {one.name: one for one in done}
        self._read: dict[str, Any] = {}
        #: Steps whose output was asked for, and is no JSON.
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


def _read(step: Step, made: str) -> dict[str, Any]:
    """The input that a template or the step before made, as what the step takes."""
    if not made.strip():
        raise JoinError(f"step {step.name!r}: its input is empty")
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
        raise JoinError(f"step {step.name!r}: it takes items, and its input is no JSON array")
    return {"items": [_item(value) for value in read]}


def _item(value: Any) -> Any:
    """An element of an array as a section: a text as it is, anything else as JSON under its own title."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("text"), str) and value.keys() <= Item.model_fields.keys():
        return value
    text = json.dumps(value, ensure_ascii=False)
    title = value.get("title") if isinstance(value, dict) else None
    return {"text": text, "title": title[:_TITLE]} if isinstance(title, str) else text
