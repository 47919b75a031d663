"""The page on workflows names what there is: the ready ones, the graders, the variables."""

from __future__ import annotations

import json
import re

import pytest

from ops.evaluate.workflow import GRADERS, read_workflow_cases
from tasks.config.prompts import VARIABLES as IN_PROMPTS
from tasks.loading.load import load, parse
from tasks.loading.load_workflows import names_in
from tasks.workflows.steps import VARIABLES
from tests.unit.test_docs import DOCS, REFERENCE, REPOSITORY, blocks, section

PAGE = REFERENCE / "workflows.md"
HOW_TO = DOCS / "how-to" / "write-a-workflow.md"


def named(title):
    """The words of the first column of the one table of this section."""
    cells = re.findall(r"^\| (`.*?) \|", section(PAGE, title), re.MULTILINE)
    return sorted(re.findall(r"`(\w+)(?:\.NAME)?`", " ".join(cells)))


def test_docs_list_the_ready_workflows_with_their_inputs():
    flows = load(REPOSITORY / "pointsman.yaml").flows

    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", section(PAGE, "The ready ones"), re.MULTILINE))

    assert sorted(flows) == names_in("ready")
    assert listed == {name: " or ".join(flow.inputs) for name, flow in flows.items()}


@pytest.mark.parametrize(
    ("title", "known"), [("Templates", VARIABLES), ("Prompts", IN_PROMPTS)], ids=["steps", "prompts"]
)
def test_docs_list_the_variables_of_templates(title, known):
    assert named(title) == sorted(known)


def test_docs_list_the_graders_of_cases():
    assert named("Cases") == sorted(GRADERS)


@pytest.mark.parametrize("text", [text for _, text in blocks(HOW_TO, "yml")])
def test_workflows_in_the_how_to_can_be_loaded(tmp_path, text):
    for name in re.findall(r"file:([\w.]+)", text):
        (tmp_path / "flow" / "prompts").mkdir(parents=True, exist_ok=True)
        (tmp_path / "flow" / "prompts" / name).write_text("You read.")
    (tmp_path / "flow" / "example.md").write_text("# A")
    shown = [line for line in HOW_TO.read_text().splitlines() if line.startswith('{"id"')]
    (tmp_path / "flow" / "cases.jsonl").write_text("\n".join(shown))
    (tmp_path / "flow" / "workflow.yaml").write_text(text)
    base = {"models": {"m": {"provider": "simulated"}}, "routes": {"r": {"models": ["m"]}}, "default_route": "r"}

    config = parse(json.dumps({**base, "workflows": {"flow": "./flow"}}), folder=tmp_path)

    assert len(read_workflow_cases(tmp_path / "flow" / "cases.jsonl", config.flows["flow"])) == 2
