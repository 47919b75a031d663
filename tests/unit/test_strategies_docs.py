"""The page of strategies says what the classes say, and the strategy that people are shown how to write works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from tasks.contract.errors import ConfigError
from tasks.loading.load import parse
from tasks.routing.options import is_sticky, strategies, strategy_named
from tasks.routing.snapshot import Snapshot, options_of
from tasks.routing.strategies.specialists import Guard
from tests.harness import REPOSITORY
from tests.snapshots import ALL, idle, names, request
from tests.unit.test_docs import DOCS, REFERENCE, blocks, first_column, section

PAGE = REFERENCE / "strategies.md"
HOW_TO = DOCS / "how-to" / "write-a-strategy.md"
ROUTES = [text for _, text in blocks(PAGE, "yml")]


def rows(kind, without=()):
    """The rows of the table of a class's options, as far as the class knows them."""
    schema = kind.model_json_schema()
    return [
        f"| `{name}` | {words(schema['properties'][name])} | `{json.dumps(plain(field))}` |"
        for name, field in kind.model_fields.items()
        if name not in without
    ]


def plain(field):
    value = field.get_default(call_default_factory=True)
    return list(value) if isinstance(value, tuple) else value


def words(schema):
    """A type of JSON Schema, as the docs show it."""
    if "anyOf" in schema:
        first, null = schema["anyOf"]
        assert null == {"type": "null"}
        return f"{words(first)}, or null"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false"}.get(
        schema["type"]
    )
    if schema["type"] == "object":
        return f"mapping of numbers{bounds(schema['additionalProperties'])}"
    if schema["type"] == "array":
        return "list of texts" if schema["items"].get("type") == "string" else "list of mappings"
    return f"{kind}{bounds(schema)}"


def bounds(schema):
    words = {"exclusiveMinimum": "above", "minimum": "at least", "maximum": "at most"}
    found = [f"{word} {schema[key]:g}" if schema[key] < 1e6 else f"{word} {schema[key]:.0f}"
             for key, word in words.items() if key in schema]  # fmt: skip
    return f" {', '.join(found)}" if found else ""


@pytest.mark.parametrize("name", ALL)
def test_strategy_sections_list_options_with_types_and_defaults(name):
    text = section(PAGE, name)
    kind = options_of(strategy_named(name))
    guarded = kind is not None and issubclass(kind, Guard)
    expected = rows(kind, without=Guard.model_fields if guarded else ()) if kind is not None else []
    assert re.findall(r"^(\| `\w+` \| .*? \| `.*?` \|) .* \|$", text, re.MULTILINE) == expected
    assert ("(#passing-over)" in text) == guarded


def test_options_of_passing_over_are_those_of_the_class():
    table = re.findall(r"^(\| `\w+` \| .*? \| `.*?` \|) .* \|$", section(PAGE, "Passing over"), re.MULTILINE)
    assert table == rows(Guard)


def test_table_of_all_strategies_says_who_binds_and_which_are_sticky():
    found = re.findall(r"^\| `(\w+)` \| (yes|no) \| (yes|no) \|", section(PAGE, "All of them"), re.MULTILINE)
    snapshot = Snapshot(1, idle(3))
    word = {True: "yes", False: "no"}
    assert found == [
        (name, word[strategy_named(name)(request(1), names(3), snapshot).bound], word[is_sticky(name)]) for name in ALL
    ]


def test_advice_names_every_strategy():
    assert set(re.findall(r"\(#(\w+)\)", section(PAGE, "Which one"))) == set(ALL)


def test_fields_by_which_a_job_overrides_are_fields_of_a_job():
    fields = first_column(section(PAGE, "What a job may say"), "field")
    assert set(fields) <= set(first_column(section(REFERENCE / "job.md", "Job"), "field"))


@pytest.mark.parametrize("text", ROUTES, ids=range(len(ROUTES)))
def test_routes_that_are_shown_are_valid(text):
    shown = yaml.safe_load(text)
    profile = {"speed": 1, "accuracy": 1, "creativity": 1, "ethics": 1, "cost": 1}
    models = {name: {"provider": "simulated", "profile": profile} for name in "abc"}
    config = parse(json.dumps({**shown, "models": models, "default_route": next(iter(shown["routes"]))}))
    assert set(config.routes) == set(shown["routes"])


# -- a strategy of one's own ---------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path):
    """What the how-to shows, as an installer would have put it into a folder that Python looks in."""
    module, trial = (text for _, text in blocks(HOW_TO, "python"))
    (project,) = (text for _, text in blocks(HOW_TO, "toml"))
    group, line = re.search(r'^\[project\.entry-points\."(.*)"\]\n(\w+ = )"(.*)"$', project, re.MULTILINE).group(1, 0)
    name, target = re.search(r'^(\w+) = "(.*)"$', line, re.MULTILINE).groups()
    (tmp_path / "canary.py").write_text(module)
    (tmp_path / "trial.py").write_text(trial)
    (configuration,) = (text for _, text in blocks(HOW_TO, "yml"))
    (tmp_path / "pointsman.yaml").write_text(configuration)
    about = tmp_path / "our_strategies-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: our-strategies\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    return tmp_path


@pytest.fixture
def found(installed, monkeypatch):
    """The same, seen by this process."""
    monkeypatch.syspath_prepend(str(installed))
    strategies.cache_clear()
    strategy_named.cache_clear()
    yield installed
    strategies.cache_clear()
    strategy_named.cache_clear()
    sys.modules.pop("canary", None)


def python(folder, *words):
    """A process of its own: what is installed is found at its start, as a worker finds it."""
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=False,
    )


def test_strategy_of_another_distribution_is_found_by_its_entry_point(found):
    assert strategies() == {*ALL, "canary"}
    config = {
        "models": {"old": {"provider": "simulated"}, "new": {"provider": "simulated"}},
        "routes": {
            "r": {"models": ["old", "new"], "strategy": "canary", "options": {"models": ["new"], "percent": 20}}
        },
        "default_route": "r",
    }
    parse(json.dumps(config))
    for options, message in (
        ({"models": ["newer"]}, "'newer' is not among the models"),
        ({"percent": 101}, "less than or"),
        ({"share": 1}, "is not an option of this strategy; allowed: models, percent"),
    ):
        config["routes"]["r"]["options"] = options
        with pytest.raises(ConfigError, match=message):
            parse(json.dumps(config))


def test_example_strategy_ranks_each_candidate_once_and_repeatably(found):
    canary = strategy_named("canary")
    snapshot = Snapshot(1, idle(4))
    for key in map(str, range(50)):
        ranking = canary(request(key=key), names(4), snapshot)
        assert sorted(preference.model for preference in ranking.preferences) == list(names(4))
        assert ranking == canary(request(key=key), names(4), snapshot)


def test_example_test_and_configuration_run_in_a_process_of_their_own(installed):
    trial = python(installed, "trial.py")
    assert trial.returncode == 0, trial.stderr
    checked = python(installed, "-m", "ops", "config", "check", "--config", "pointsman.yaml")
    assert checked.returncode == 0, checked.stderr
    (installed / "our_strategies-1.0.dist-info" / "entry_points.txt").unlink()
    missing = python(installed, "-m", "ops", "config", "check", "--config", "pointsman.yaml")
    assert missing.returncode != 0
    assert "'canary' is not a strategy" in missing.stderr
