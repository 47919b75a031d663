"""``pointsman run``: run a workflow on a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson, Labels, Metadata, Timeout, WorkflowName
from ops.cli.cmd_workflows import known_workflow
from ops.cli.environment import load_config, open_producer
from ops.cli.exits import Failure
from ops.cli.inputs import pairs, read_file, values
from ops.cli.render import note

if TYPE_CHECKING:
    from tasks.config.library import Workflow

#: The fields of a JSON object that holds the input and its metadata.
_FIELDS = ("text", "items", "messages", "metadata")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The fields of the job that a workflow does not set itself."""

    metadata: Metadata = None
    label: Labels = None
    priority: Annotated[str, typer.Option(metavar="RANK", help="high, normal or low.")] = "normal"
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds until the job expires.")] = None
    budget_usd: Annotated[float | None, typer.Option("--budget", metavar="USD", help="Total cost at most.")] = None


async def run(
    workflow: WorkflowName,
    file: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="The input; - reads standard input. By default the workflow's example."),
    ] = None,
    *,
    options: JobOptions,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> int:
    """Run a workflow on a file, and print its output.

    FILE is a text or a document (PDF, DOCX and HTML with the extra `documents`). If the workflow takes items, each of
    several files is one item, and a JSON array or JSON lines hold several; if it takes messages, a JSON array holds
    them. A JSON object may hold everything: `text`, `items` or `messages`, and `metadata`. The exit code says how the
    job ended.

        pointsman run legal_review contract.md --metadata party=Customer
        pointsman run research_synthesis first.pdf second.pdf
        git diff | pointsman run code_review -
    """
    from ops.cli.waiting import print_outcome, wait_for

    known = known_workflow(load_config(), workflow)
    given = read_input(known, file or [])
    if not file:
        note(f"example {known.example}")
    job = {
        **given,
        "kind": workflow,
        "metadata": {**given.get("metadata", {}), **values("metadata", options.metadata or ())},
        "labels": pairs("label", options.label or ()),
        "priority": options.priority,
    }
    limits = {"deadline": options.deadline, "budget_usd": options.budget_usd}
    job |= {name: value for name, value in limits.items() if value is not None}
    async with open_producer() as producer:
        accepted = await producer.submit(job)
        result = await wait_for(producer, accepted.id, timeout=timeout)
    return print_outcome(result, as_json=as_json)


def read_input(workflow: Workflow, files: list[Path]) -> dict[str, Any]:
    """Return the input of a job of this workflow, from the files or else from its example.

    Raises:
        Failure: if there is none, or the files can't be read.
    """
    if not files:
        if workflow.example is None:
            raise Failure(
                "usage", f"the workflow {workflow.name!r} has no example", field="file", remedy="name a file, or -"
            )
        files = [workflow.example]
    if len(files) > 1 and "items" not in workflow.inputs:
        raise Failure(
            "usage",
            f"the workflow {workflow.name!r} takes {' or '.join(workflow.inputs)}, one file",
            field="file",
            remedy="run it once a file",
        )
    from tasks.parallel.job_files import list_unread  # loads the splits

    readings = [read_file(path) for path in files]
    unread = [
        one.model_dump()
        for path, reading in zip(files, readings, strict=True)
        for one in list_unread(path.name, reading.gaps)
    ]
    found = _input_of(workflow, [(path, reading.text) for path, reading in zip(files, readings, strict=True)])
    return found | ({"unread": unread} if unread else {})


def _input_of(workflow: Workflow, texts: list[tuple[Path, str]]) -> dict[str, Any]:
    """Return the input of a job of this workflow, from the texts of files."""
    if len(texts) > 1:
        return {"items": [{"text": text, "title": path.name[:200]} for path, text in texts]}
    path, text = texts[0]
    parsed = _parse_json(text) if path.suffix in {".json", ".jsonl"} or str(path) == "-" else None
    if isinstance(parsed, dict) and parsed and parsed.keys() <= set(_FIELDS):
        return parsed
    if isinstance(parsed, list) and parsed:
        if "messages" in workflow.inputs and all(isinstance(one, dict) and "role" in one for one in parsed):
            return {"messages": parsed}
        if "items" in workflow.inputs:
            return {"items": parsed}
    if "text" in workflow.inputs or "messages" in workflow.inputs:
        return {"text": text}
    return {"items": [{"text": text, "title": path.name[:200]}]}


def _parse_json(text: str) -> Any:
    """Parse a text as JSON, or as JSON lines; return None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        # Not by splitlines, which also splits at characters that JSON allows inside of texts.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None
