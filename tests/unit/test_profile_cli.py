"""What `pointsman profile` and `pointsman eval prompts` say to mistakes, before anything is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.cli import main
from ops.cli.exits import Exit

CONFIG = """\
models:
  fast: {provider: simulated}
  slow: {provider: simulated}
routes:
  billing: {models: [slow, fast], prompt: Be brief.}
  general: {models: [fast]}
default_route: general
"""
CASE = '{"text": "2 + 2 = ?", "expected": 4, "route": "billing"}\n'
BY_JUDGE = '{"text": "What is rain?", "expected": "water", "grade": "judge"}\n'


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    """A directory with a configuration and files, and no server anywhere."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("pointsman.yaml", CONFIG), ("cases.jsonl", CASE), ("judged.jsonl", BY_JUDGE)):
        Path(name).write_text(text)
    Path("a.txt").write_text("Say it in one word.")
    Path("same.txt").write_text("Be brief.")
    Path("damaged.json").write_text("{")
    monkeypatch.setenv("POINTSMAN_CONFIG", "pointsman.yaml")
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("POINTSMAN_REDIS_URL", f"unix://{tmp_path}/missing.sock")


PROFILE = ("profile", "--eval", "cases.jsonl")
PROMPTS = ("eval", "prompts", "--route", "billing", "--eval", "cases.jsonl")


@pytest.mark.parametrize(
    ("arguments", "field", "problem"),
    [
        (("profile", "--eval", "nowhere.jsonl"), "eval", "nowhere.jsonl does not exist"),
        (("profile", "--eval", "judged.jsonl"), "line 1.grade", "judge needs a judge model"),
        ((*PROFILE, "--judge", "wise"), "judge", "'wise' is not a model"),
        ((*PROFILE, "--models", "fast,quick"), "models", "'quick' is not a model"),
        ((*PROFILE, "--out", "nowhere/p.json"), "out", "can't be written"),
        ((*PROFILE, "--outcomes", "."), "outcomes", "can't be written"),
        ((*PROFILE, "--report", "a.txt"), "report", "is no folder"),
        ((*PROFILE, "--run", "No Name"), "run", "is not a name"),
        ((*PROFILE, "--out", "damaged.json"), None, "damaged.json:1: is not JSON"),
        ((*PROMPTS, "--prompts", "nowhere.txt"), "prompts", "nowhere.txt can't be read"),
        ((*PROMPTS, "--prompts", "a.txt", "same.txt"), "prompts", "same.txt has the same text as current"),
        ((*PROMPTS, "--model", "quick"), "model", "'quick' is not a model"),
        (("eval", "prompts", "--route", "sales", "--eval", "cases.jsonl"), "route", "'sales' is not a route"),
        (("eval", "prompts", "--route", "general", "--eval", "cases.jsonl"), "eval", "no accuracy case of route"),
    ],
)
def test_profile_reports_bad_input_before_it_asks_anything(capsys, arguments, field, problem):
    code = main([*arguments, "--json"])

    error = json.loads(capsys.readouterr().out)["error"]
    assert code == Exit.USAGE
    assert error["field"] == field
    assert problem in error["message"]


@pytest.mark.parametrize("arguments", [PROFILE, ("profile",), (*PROMPTS, "a.txt")])
def test_profile_without_a_server_says_how_to_start_one(capsys, arguments):
    assert main([*arguments, "--json"]) == Exit.UNREACHABLE
    error = json.loads(capsys.readouterr().out)["error"]
    assert "pointsman up" in error["remedy"]
    assert not Path("profiles.json").exists()


def test_route_that_a_case_names_must_be_configured(capsys):
    Path("cases.jsonl").write_text(CASE + CASE.replace("billing", "sales"))
    assert main(PROFILE) == Exit.USAGE
    problem = capsys.readouterr().err
    assert "line 2.route: 'sales' is not known" in problem
    assert "allowed: billing, general" in problem
