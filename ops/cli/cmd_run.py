"""``pointsman run``: a workflow on a file, from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson
from ops.cli.cmd_workflows import WorkflowName, known_workflow

if TYPE_CHECKING:
    from tasks.config.library import Workflow

__all__ = ["read_input", "run"]

#: What an object in a JSON file may say: the input, and the metadata that go with it.
_FIELDS = ("text", "items", "messages", "metadata")


async def run(
    workflow: WorkflowName,
    file: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="The input; - reads standard input. By default the workflow's example."),
    ] = None,
    *,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A JSON value counts as such. May be repeated.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    priority: Annotated[str, typer.Option(metavar="RANK", help="high, normal or low.")] = "normal",
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds until the job expires.")] = None,
    budget_usd: Annotated[
        float | None, typer.Option("--budget", metavar="USD", help="What it may cost in all.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Seconds to wait; the job goes on after.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run a workflow on a file, and print its output.

    FILE is a text or a document (PDF, DOCX and HTML with the extra `documents`). Where the workflow takes items, each
    of several files is one, and a JSON array or JSON lines are as many as they hold; where it takes messages, a JSON
    array holds them. A JSON object says it all: its `text`, `items` or `messages`, and `metadata`. The exit code tells
    how the job ended.

        pointsman run legal_review contract.md --metadata party=Customer
        pointsman run research_synthesis first.pdf second.pdf
        git diff | pointsman run code_review -
    """
    from ops.cli.environment import load_config, open_producer
    from ops.cli.inputs import pairs, values
    from ops.cli.render import note
    from ops.cli.waiting import print_outcome, wait_for

    known = known_workflow(load_config(), workflow)
    given = read_input(known, file or [])
    if not file:
        note(f"example {known.example}")
    job = {
        **given,
        "kind": workflow,
        "metadata": {**given.get("metadata", {}), **values("metadata", metadata or ())},
        "labels": pairs("label", label or ()),
        "priority": priority,
    }
    job |= {name: value for name, value in (("deadline", deadline), ("budget_usd", budget_usd)) if value is not None}
    async with open_producer() as producer:
        accepted = await producer.submit(job)
        result = await wait_for(producer, accepted.id, timeout=timeout)
    return print_outcome(result, as_json=as_json)


def read_input(workflow: Workflow, files: list[Path]) -> dict[str, Any]:
    """The input of a job of this workflow, of the files or else of its example.

    Raises:
        Failure: if there is none, or the files can't be read.
        BadInput: for a document that can't be read.
    """
    from ops.cli.exits import Failure

    if not files:
        if workflow.example is None:
            raise Failure(
                "usage", f"the workflow {workflow.name!r} has no example", field="file", remedy="name a file, or -"
            )
        files = [workflow.example]
    if len(files) > 1:
        if "items" not in workflow.inputs:
            raise Failure(
                "usage",
                f"the workflow {workflow.name!r} takes {' or '.join(workflow.inputs)}, one file",
                field="file",
                remedy="run it once a file",
            )
        return {"items": [{"text": _text(path), "title": path.name[:200]} for path in files]}
    path, text = files[0], _text(files[0])
    said = _parsed(text) if path.suffix in {".json", ".jsonl"} or str(path) == "-" else None
    if isinstance(said, dict) and said and said.keys() <= set(_FIELDS):
        return said
    if isinstance(said, list) and said:
        if "messages" in workflow.inputs and all(isinstance(one, dict) and "role" in one for one in said):
            return {"messages": said}
        if "items" in workflow.inputs:
            return {"items": said}
    if "text" in workflow.inputs or "messages" in workflow.inputs:
        return {"text": text}
    return {"items": [{"text": text, "title": path.name[:200]}]}


def _text(path: Path) -> str:
    from ops.cli.exits import Failure
    from ops.cli.inputs import read_text
    from tasks.documents import read_document

    if str(path) == "-":
        return read_text(None, path) or ""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure("bad_input", f"{path} can't be read: {error.strerror}", field="file") from None
    return read_document(path.name, data)


def _parsed(text: str) -> Any:
    """The JSON of a text, or of each of its lines; None where it is neither."""
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        # Not by splitlines, which breaks at characters that may stand inside of JSON texts.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None
