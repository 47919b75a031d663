"""The page on workflows names what there is: the ready ones, the graders, the variables."""

from __future__ import annotations

import re

import pytest

from ops.evaluate.workflow_cases import GRADERS
from tasks.config import load
from tasks.prompts import VARIABLES as IN_PROMPTS
from tasks.workflow import VARIABLES
from tasks.workflow_load import names_in
from tests.unit.test_docs import REFERENCE, REPOSITORY, section

PAGE = REFERENCE / "workflows.md"


def named(title):
    """The words of the first column of the one table of this section."""
    cells = re.findall(r"^\| (`.*?) \|", section(PAGE, title), re.MULTILINE)
    return sorted(re.findall(r"`(\w+)(?:\.NAME)?`", " ".join(cells)))


def test_the_ready_ones_are_told_as_they_tell_themselves():
    flows = load(REPOSITORY / "pointsman.yaml").flows

    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section(PAGE, "The ready ones"), re.MULTILINE))

    assert sorted(told) == names_in("ready")
    assert told == {name: f"{' or '.join(flow.inputs)} | {flow.description}" for name, flow in flows.items()}


@pytest.mark.parametrize(
    ("title", "known"), [("Templates", VARIABLES), ("Prompts as files", IN_PROMPTS)], ids=["steps", "prompts"]
)
def test_the_variables_are_those_that_templates_know(title, known):
    assert named(title) == sorted(known)


def test_the_graders_are_those_that_cases_may_name():
    assert named("Cases") == sorted(GRADERS)
