"""`pointsman workflows`, `run` and `eval workflow`, on real workers and simulated models."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ops.cli.exits import Exit
from tests.harness import DEADLINE, REPOSITORY, fleet

FLOW = """\
description: A question goes to its desk, and what the desk says is signed.
input: [text, messages]
example: example.md
cases: cases.jsonl
default_route: other
routes:
  other: {prompt: "file:desk.md"}
  money: {keywords: [invoice, refund], prompt: "file:desk.md"}
steps:
  - name: answer
    job: {routes: [other, money]}
  - name: again
    when: metadata.twice
    job: {prompt: "file:again.md"}
  - name: spare
    optional: true
    input: "{{ steps.answer }}"
    job: {model: broken, max_attempts: 1}
output: "{{ steps.again or steps.answer }} -- {{ metadata.sign|default('the desk') }}"
"""
CASES = [
    {"id": "right", "input": {"text": "Where is my refund?"}, "expect": {"route": "money", "contains": "MONEY"}},
    {"id": "lost", "input": {"text": "Where is my hat?"}, "expect": {"route": "money"}},
    {"id": "signed", "input": {"text": "Hello?", "metadata": {"sign": "Ana"}}, "expect": {"regex": "OTHER -- Ana$"}},
]
#: What a simulated model says, by what its prompt holds.
PROMPTS = {"Say it again.": ["AGAIN"], "Desk of flow.money": ["MONEY"], "Desk of flow.other": ["OTHER"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workflows")
    (folder / "flow" / "prompts").mkdir(parents=True)
    for name, text in {
        "workflow.yaml": FLOW,
        "prompts/desk.md": "Desk of {{ route }}.",
        "prompts/again.md": "Say it again.",
        "example.md": "I want my refund.",
        "cases.jsonl": "\n".join(map(json.dumps, CASES)),
    }.items():
        (folder / "flow" / name).write_text(text)
    models = {"fast": {"capacity": 8}, "broken": {"capacity": 2, "attempts": 1}}
    simulations = {"fast": {"prompts": PROMPTS}, "broken": {"failure": "bad_request"}}
    workflows = {"flow": {"from": "./flow", "models": ["fast"]}}
    with fleet(folder, models=models, simulations=simulations, workflows=workflows) as started:
        started.start_all([("route,join", 4), ("model.fast", 8), ("model.broken", 2)])
        yield started


def cli(running, *arguments, stdin=""):
    env = {**os.environ, **running.env, "POINTSMAN_STATE_DIR": str(running.folder / "state"), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        input=stdin, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=env, timeout=DEADLINE,
    )  # fmt: skip


def test_workflows_are_listed_with_the_versions_of_their_prompts(running):
    listed = json.loads(cli(running, "workflows", "--json").stdout)
    shown = cli(running, "workflows", "flow")

    (flow,) = listed
    assert (flow["name"], flow["input"]) == ("flow", ["text", "messages"])
    assert [(step["name"], step["conditional"], step["optional"]) for step in flow["steps"]] == [
        ("answer", False, False), ("again", True, False), ("spare", False, True),
    ]  # fmt: skip
    version = flow["steps"][1]["prompts"]["flow/again.md"]
    assert f"flow/again.md {version}" in shown.stdout


def test_workflow_that_is_not_configured_is_reported_with_the_remedy(running):
    done = cli(running, "run", "legal_review")

    assert done.returncode == Exit.USAGE
    assert "add `workflows: {legal_review: ready}` to the configuration" in done.stderr


def test_run_without_a_file_takes_the_example(running):
    done = cli(running, "run", "flow")

    assert (done.returncode, done.stdout) == (Exit.OK, "MONEY -- the desk\n"), done.stderr


def test_metadata_decide_about_steps_and_fill_templates(running):
    message = ["--metadata", "twice=true", "--metadata", "sign=Ana"]

    done = cli(running, "run", "flow", "-", *message, stdin="Where is my hat?")

    assert (done.returncode, done.stdout) == (Exit.OK, "AGAIN -- Ana\n"), done.stderr


def test_result_names_each_step_and_its_outcome(running):
    done = cli(running, "run", "flow", "--json")

    result = json.loads(done.stdout)
    assert result["details"]["steps"] == [
        {"name": "answer", "state": "succeeded", "route": "flow.money"},
        {"name": "again", "state": "skipped"},
        {"name": "spare", "state": "failed"},
    ]
    first = running.producer.result(result["parts"][0]["job"])
    assert first.routing.route == "flow.money"
    flow = json.loads(cli(running, "workflows", "flow", "--json").stdout)
    assert first.parts[0].prompt_version == flow["routes"]["flow.money"]["prompts"]["flow/desk.md"]


def test_eval_workflow_runs_and_grades_the_cases(running):
    done = cli(running, "eval", "workflow", "flow", "--json")

    assert done.returncode == Exit.OK, done.stderr
    found = json.loads(done.stdout)
    assert (found["cases"], found["graded"], found["right"], found["failed"]) == (3, 3, 2, 0)
    assert found["graders"] == {
        "route": {"right": 1, "of": 2}, "contains": {"right": 1, "of": 1}, "regex": {"right": 1, "of": 1},
    }  # fmt: skip
    assert [one["right"] for one in found["each"]] == [True, False, True]
    assert all(one["latency_s"] > 0 for one in found["each"])


def test_eval_run_goes_on_under_its_name_without_asking_again(running):
    cli(running, "eval", "workflow", "flow", "--run", "twice", "--json")
    asked = running.stats("fast")["requests"]

    again = cli(running, "eval", "workflow", "flow", "--run", "twice", "--json")

    assert json.loads(again.stdout)["right"] == 2
    assert running.stats("fast")["requests"] == asked


def test_cases_file_is_checked_before_any_question(running, tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"input": {"items": ["x"]}, "expect": {"exact": "y"}}')

    done = cli(running, "eval", "workflow", "flow", "--cases", str(tmp_path / "mine.jsonl"))

    assert done.returncode == Exit.USAGE
    assert "line 1.input.items: is not what the workflow 'flow' takes" in done.stderr
